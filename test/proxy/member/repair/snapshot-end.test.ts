/** Limits the snapshot that repairs a VM: a monitor with a clock of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { thisProcess } from '../../../../proxy/host/known-process.ts';
import { repairAfterSnapshot } from '../../../../proxy/member/repair/snapshot-end.ts';
import type { QmpClient } from '../../../../qmp/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const test = suite('end of a snapshot');
const GIB = 1024 ** 3;
/** Time that passes between two questions, milliseconds. */
const TICK_MS = 10_000;
const { now } = performance;
let root = '';
let skippedMs = 0;

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-snapshot-'));
  skippedMs = 0;
  performance.now = () => now.call(performance) + skippedMs;
});
test.after.each(() => {
  performance.now = now;
  rmSync(root, { recursive: true, force: true });
});

/** Makes a QEMU that saves so much a second, after a snapshot that was broken off. */
function monitor(ramBytes: number, bytesPerSecond: number): QmpClient {
  let saving = false;
  let saved = 0;
  const answers: Record<string, () => object> = {
    'x-query-ramblock': () => {
      const size = `0x${ramBytes.toString(16).padStart(16, '0')}`;
      const row = `pc.ram  4 KiB  0x0000000000000000 ${size} ${size}`;
      return { 'human-readable-text': row };
    },
    migrate: () => {
      saving = true;
      return {};
    },
    'query-migrate': () => {
      if (!saving) return { status: 'cancelled' };
      skippedMs += TICK_MS;
      saved += bytesPerSecond * (TICK_MS / 1000);
      return { status: saved >= ramBytes ? 'completed' : 'active' };
    },
  };
  const execute = async (command: string) => answers[command]?.() ?? {};
  return { version: { major: 7, minor: 2, micro: 0 }, execute } as unknown as QmpClient;
}

async function mend(ramBytes: number, bytesPerSecond: number): Promise<string> {
  const vm = thisProcess();
  const qmp = monitor(ramBytes, bytesPerSecond);
  return repairAfterSnapshot(qmp, { vm, reader: vm }, root).then(
    () => 'whole',
    ({ code }) => code,
  );
}

test('a large VM may take long', async () => {
  assert.is(await mend(64 * GIB, GIB / 4), 'whole'); // four minutes
});

test('a small VM on a busy host has a minute', async () => {
  assert.is(await mend(GIB, GIB / 45), 'whole');
});

test('a snapshot that saves next to nothing is given up', async () => {
  assert.is(await mend(64 * GIB, GIB / 20), 'E_QMP_TIMEOUT');
});

test.run();
