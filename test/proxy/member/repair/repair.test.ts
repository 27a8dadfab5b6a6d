/** Repairs a VM by its journal, through a monitor that answers as a test says. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Journal } from '../../../../proxy/member/repair/journal.ts';
import { repairVm } from '../../../../proxy/member/repair/repair.ts';
import type { QmpClient } from '../../../../qmp/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const test = suite('repair');
const LIMIT_MS = 10_000;
const SAVED = { capabilities: [], parameters: {} };
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-repair-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Makes a monitor of a paused VM. @param asked called with every command */
function monitor(asked: (command: string) => void): QmpClient {
  let running = false;
  const execute = async (command: string) => {
    asked(command);
    if (command === 'cont') running = true;
    return { running, status: running ? 'running' : 'paused' };
  };
  return { isOpen: true, execute } as unknown as QmpClient;
}

test('a VM whose stop was asked for runs again, and its journal is gone', async () => {
  const journal = new Journal(root);
  journal.write({ round: 'r1', stopping: true, migrates: false, saved: SAVED });
  const asked: string[] = [];
  const connected = monitor((command) => asked.push(command));
  assert.is(await repairVm('', journal, LIMIT_MS, { connected }), true);
  assert.ok(asked.includes('cont'));
  assert.is(journal.read(), undefined);
});

test('the journal of a round that has begun meanwhile stays', async () => {
  const journal = new Journal(root);
  journal.write({ round: 'r1', stopping: false, migrates: false, saved: SAVED });
  const connected = monitor(() => {
    journal.write({ round: 'r2', stopping: true, migrates: false, saved: SAVED });
  });
  await repairVm('', journal, LIMIT_MS, { connected });
  assert.is(journal.read()?.round, 'r2');
});

test.run();
