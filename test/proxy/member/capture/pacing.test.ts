/** Keeps a waiting member from spinning: seen by what QEMU and the stream are told. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { StreamIntake } from '../../../../proxy/intake/stream-intake.ts';
import { LiveMeter } from '../../../../proxy/member/capture/live-meter.ts';
import { Pacing } from '../../../../proxy/member/capture/pacing.ts';
import type { QmpClient } from '../../../../qmp/index.ts';

const MIB = 2 ** 20;
const NOTHING_LEFT = 4096;

const test = suite('pacing');

/** Makes a QEMU whose pass found `remaining` bytes, and notes what it and the stream are told. */
function bench(remaining: number, canTrickle = true) {
  const told: string[] = [];
  const execute = async (command: string, parameters?: { 'max-bandwidth': number }) => {
    if (command === 'query-migrate') {
      return { ram: { remaining, 'dirty-pages-rate': 0, 'page-size': 4096 } };
    }
    const bandwidth = parameters?.['max-bandwidth'] ?? Number.NaN;
    told.push(bandwidth < MIB ? 'trickle' : 'full speed');
    return {};
  };
  const intake = { keptBack: false, pace: (rests: boolean) => told.push(rests ? 'rest' : 'flow') };
  const meter = new LiveMeter(() => performance.now());
  const qmp = { execute } as unknown as QmpClient;
  const pacing = new Pacing(qmp, intake as unknown as StreamIntake, meter, canTrickle);
  const pass = async (number: number) => {
    meter.onPass(number);
    const asked = new Promise<void>((resolve) => pacing.onPass(resolve));
    await asked;
    await nextTurn();
  };
  return { pacing, told, pass };
}

test('with the last page the stream rests at once: passes would come by the thousand', () => {
  const { pacing, told } = bench(NOTHING_LEFT);
  pacing.onAllSeen();
  assert.equal(told, ['rest']);
  pacing.end();
});

test('after a pass that found next to nothing, QEMU trickles before the stream flows', async () => {
  const { pacing, told, pass } = bench(NOTHING_LEFT);
  pacing.onAllSeen();
  await pass(2);
  assert.equal(told, ['rest', 'rest', 'trickle', 'flow']);
  pacing.end();
});

test('a pass that has found much flows at once, at full speed', async () => {
  const { pacing, told, pass } = bench(64 * MIB);
  await pass(2);
  assert.equal(told, ['rest', 'flow']);
  pacing.end();
});

test('a QEMU that cannot trickle rests between passes instead', async () => {
  const { pacing, told, pass } = bench(NOTHING_LEFT, false);
  await pass(2);
  assert.equal(told, ['rest'], 'and flows when the rest is over');
  pacing.end();
});

test('the closing phase ends the trickle: a sleeping QEMU would stop late', async () => {
  const { pacing, told, pass } = bench(NOTHING_LEFT);
  await pass(2);
  pacing.closeIn();
  await nextTurn();
  assert.equal(told.slice(-1), ['full speed']);
  pacing.end();
});

test('no command is sent to QEMU after the end', async () => {
  const { pacing, told, pass } = bench(NOTHING_LEFT);
  await pass(2);
  const before = told.length;
  pacing.end();
  pacing.keepBack();
  pacing.closeIn();
  pacing.onPass(() => {});
  await nextTurn();
  assert.is(told.length, before);
});

test.run();
