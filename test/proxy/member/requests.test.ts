import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { memberFile } from '../../../proxy/host/folders.ts';
import { Requests } from '../../../proxy/member/requests.ts';
import { roundOf, sealEpoch } from '../../shadow/durable/sealed-epoch.ts';
import { scratchFolder } from '../../support/scratch.ts';

const LIMIT_MS = 60_000;
/** Time for a load that was given up to end, milliseconds. */
const HEAR_MS = 50;

const test = suite('requests');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-requests-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

test('a load whose QEMU never came is ended by the next one, which continues', async () => {
  const directory = join(root, 'vm');
  mkdirSync(directory);
  await sealEpoch(root, 1, ['a']);
  const shadowDirectory = join(root, roundOf(1), 'a');
  const requests = new Requests({ member: 'a', qmp: join(directory, 'qmp.sock'), directory });
  const load = () => requests.answer({ type: 'load', shadowDirectory, mode: 'stream' });
  const codeOf = (error: unknown) => (error instanceof UmbraError ? error.code : String(error));

  const first = load().catch(codeOf);
  await delay(HEAR_MS);
  const second = load().catch(codeOf);
  assert.is(await first, 'E_LOAD_FAILED');
  await delay(HEAR_MS);
  const qemu = createServer((socket) => socket.destroy());
  qemu.listen(memberFile(directory, 'incoming'));
  try {
    const connected = once(qemu, 'connection', { signal: AbortSignal.timeout(LIMIT_MS) });
    assert.is(await Promise.race([connected.then(() => 'fed'), second]), 'fed');
  } finally {
    requests.close();
    qemu.close();
  }
  await second;
});

test.run();
