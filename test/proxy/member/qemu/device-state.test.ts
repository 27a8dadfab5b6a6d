/** The file that QEMU saves a VM's device state to. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { DeviceState } from '../../../../proxy/member/qemu/device-state.ts';
import type { QmpClient } from '../../../../qmp/index.ts';
import { failureOf } from '../../../support/failure-of.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const test = suite('device state');
const STATE = Buffer.concat([Buffer.from('QEVM\0\0\0\x03', 'latin1'), Buffer.from('sections')]);
const LIMIT_BYTES = 2 ** 20;

let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-state-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

/** Returns a monitor that takes every descriptor, and calls `save` when it is to save. */
function monitor(save: () => void): QmpClient {
  const execute = async (command: string) => {
    if (command === 'xen-save-devices-state') save();
    return {};
  };
  return { isOpen: true, execute, giveDescriptor: async () => {} } as unknown as QmpClient;
}

test('a state that is given up while it is saved touches no other file', async () => {
  const other = join(folder, 'other');
  writeFileSync(other, STATE);
  let fd = -1;
  const giveUp = () => {
    state.close();
    fd = openSync(other, 'r+'); // the lowest number that is free: that of the closed one
  };
  const state = await DeviceState.open(monitor(giveUp), join(folder, 'state'), LIMIT_BYTES);
  const { code } = await failureOf(state.save(1000));
  closeSync(fd);
  assert.is(code, 'E_DEVICE_STATE');
  assert.ok(readFileSync(other).equals(STATE));
  state.close();
});

test('what QEMU has not saved is no state', async () => {
  const state = await DeviceState.open(
    monitor(() => {}),
    join(folder, 'state'),
    LIMIT_BYTES,
  );
  assert.is((await failureOf(state.save(1000))).code, 'E_DEVICE_STATE');
  state.close();
});

test.run();
