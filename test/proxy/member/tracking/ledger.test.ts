/** The ledger of tracked pages: what is owed, whatever dies. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { thisProcess } from '../../../../proxy/host/known-process.ts';
import { Ledger } from '../../../../proxy/member/tracking/ledger.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const test = suite('the ledger of tracked pages');
const BLOCKS = [
  { idstr: 'pc.ram', bytes: 2 ** 26, address: 0x7f0000000000n, memory: 'anonymous' },
  { idstr: '/rom@etc/table-loader', bytes: 4096, address: undefined, memory: undefined },
] as const;
const RUN = { block: 0, page: 5, count: 3 };
const vm = thisProcess();

let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-ledger-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

/** Begins the ledger of a VM whose base is committed: round r1. */
function begun(): Ledger {
  const ledger = new Ledger(folder);
  ledger.begin(vm, 7, BLOCKS, false);
  ledger.watched();
  ledger.pend('r1');
  ledger.commit();
  return ledger;
}

test('a VM is known by its process and its blocks, also to the next proxy', () => {
  begun();
  const next = new Ledger(folder);
  assert.is(next.descriptorOf(vm), 7);
  assert.ok(next.isWatched);
  assert.equal(next.blocks, BLOCKS);
  assert.is(next.descriptorOf({ ...vm, startTime: '1' }), undefined);
});

test('before a base is committed nothing is known', () => {
  const ledger = new Ledger(folder);
  ledger.begin(vm, 7, BLOCKS, false);
  assert.not.ok(ledger.knowsSince('r1'));
  ledger.pend('r1');
  assert.not.ok(ledger.knowsSince('r0'));
});

test('a round that was published is committed, though its proxy died before it heard', () => {
  const ledger = begun();
  ledger.clearing(() => [RUN]);
  ledger.pend('r2');
  const next = new Ledger(folder);
  assert.ok(next.knowsSince('r2'));
  assert.equal(next.owed, []);
});

test('pages that a failed round has cleared are owed to the next', () => {
  const ledger = begun();
  ledger.clearing(() => [RUN]);
  ledger.pend('r2'); // sealed, and then aborted
  const next = new Ledger(folder);
  assert.ok(next.knowsSince('r1'));
  assert.equal(next.owed, [RUN]);
  next.clearing(() => [{ ...RUN, page: 900 }]);
  next.pend('r3');
  next.commit();
  assert.ok(next.knowsSince('r3'));
  assert.equal(next.owed, []);
});

test('an epoch that is not the newest known cut is not built upon', () => {
  const ledger = begun();
  assert.not.ok(ledger.knowsSince('r7'));
});

test('a process that dies while it clears has lost the pages', () => {
  const ledger = begun();
  assert.throws(() =>
    ledger.clearing(() => {
      throw new Error('killed');
    }),
  );
  assert.not.ok(new Ledger(folder).knowsSince('r1'));
});

test('damage is never taken for knowledge', () => {
  const ledger = begun();
  ledger.clearing(() => [RUN]);
  const owed = join(folder, 'tracking.owed');
  const whole = readFileSync(owed);
  for (const damaged of [
    whole.subarray(0, -1),
    Buffer.alloc(0),
    Buffer.concat([whole, Buffer.alloc(12, 0xff)]),
  ]) {
    writeFileSync(owed, damaged);
    assert.not.ok(new Ledger(folder).knowsSince('r1'));
  }
  writeFileSync(owed, whole);
  assert.ok(new Ledger(folder).knowsSince('r1'));
  for (const text of ['', '{}', '{"format":"umbra-tracking","version":99}', 'null']) {
    writeFileSync(join(folder, 'tracking.json'), text);
    const ledger = new Ledger(folder);
    assert.is(ledger.descriptorOf(vm), undefined);
    assert.not.ok(ledger.knowsSince('r1'));
  }
});

test('forgetting makes a base necessary', () => {
  const ledger = begun();
  ledger.forget();
  assert.not.ok(ledger.knowsSince('r1'));
  assert.is(ledger.descriptorOf(vm), 7);
});

test.run();
