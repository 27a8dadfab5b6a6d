/**
 * Persists an epoch and retires the one before. It kills itself at a step: at its first or a later
 * time.
 */
import { readFileSync } from 'node:fs';
import { DurableStore } from '../../../shadow/durable/index.ts';
import type { EpochManifest } from '../../../shadow/index.ts';
import { persistAndRetire } from './sealed-epoch.ts';

const [disk = '', shadows = '', file = '', step = '', occurrence = ''] = process.argv.slice(2);
const epoch = JSON.parse(readFileSync(file, 'utf8')) as EpochManifest;
let times = 0;
await persistAndRetire(new DurableStore(disk, 'demo'), shadows, epoch, (name) => {
  if (name === step && ++times === Number(occurrence)) process.kill(process.pid, 'SIGKILL');
});
