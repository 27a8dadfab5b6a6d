/** The model follows what is known of QEMU, trait by trait (qemu-behaviour.md). */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { GIB, MIB, ONE_HOST, vm } from '../../../tools/sim/clusters.ts';
import { type DirtyModel, distinctPages, PAGE_BYTES } from '../../../tools/sim/dirty-model.ts';
import { Events } from '../../../tools/sim/events.ts';
import { Host, type Stream } from '../../../tools/sim/host.ts';
import { ModelledVm, NORMAL_PAGE_WIRE_BYTES, ZERO_PAGE_WIRE_BYTES } from '../../../tools/sim/vm.ts';

const BUSY: DirtyModel = {
  kind: 'working-set',
  bytesPerSecond: 100 * MIB,
  workingSetBytes: 64 * MIB,
};
const PAGES = GIB / PAGE_BYTES;
const DEVICE_BYTES = 100 * 1024;

/** Makes a VM whose first pass is over after a second. */
function afterFirstPass(dirty: DirtyModel): ModelledVm {
  const one = new ModelledVm(vm(GIB, dirty));
  one.migrate(0);
  one.send(one.leftWork);
  one.sync(1000);
  return one;
}

const test = suite('modelled VM');

test('the first pass sends all memory once, and pages of zeros cost next to nothing', () => {
  const one = new ModelledVm(vm(GIB, { kind: 'idle' }, { zeroShare: 0.5 }));
  one.migrate(0);
  assert.is(one.remainingBytes, GIB);
  const work = one.leftWork;
  one.send(work);
  assert.is(one.seenPages, PAGES);
  assert.equal([one.normalPages, one.zeroPages], [PAGES / 2, PAGES / 2]);
  const wire = (PAGES / 2) * (NORMAL_PAGE_WIRE_BYTES + ZERO_PAGE_WIRE_BYTES);
  assert.is(Math.round(one.wireBytes), Math.round(wire));
  const full = new ModelledVm(vm(GIB, { kind: 'idle' }, { zeroShare: 0 }));
  full.migrate(0);
  assert.ok(work < 0.6 * full.leftWork, 'in time, too');
});

test('the log is synced at the end of a pass: until then nothing is known of it', () => {
  const one = new ModelledVm(vm(GIB, BUSY));
  one.migrate(0);
  one.send(one.leftWork / 2);
  assert.is(one.remainingBytes, GIB / 2);
  assert.is(one.passBytes, undefined);
  one.send(one.leftWork);
  assert.is(one.remainingBytes, 0);
});

test('the second pass is what was dirtied since the first began, sent by then or not', () => {
  const one = afterFirstPass(BUSY);
  const expected = distinctPages(BUSY, PAGES, 0, 1000) * PAGE_BYTES;
  assert.ok(Math.abs((one.passBytes ?? 0) - expected) < 1);
  assert.is(one.passes, 2);
});

test('what is written while the stream is not read is sent once', () => {
  const held = afterFirstPass(BUSY);
  held.send(held.leftWork);
  held.sync(61_000);
  assert.ok((held.passBytes ?? 0) <= 64 * MIB, 'a minute of writing, one working set');
});

test('once stopped, nothing is dirtied any more', () => {
  const one = afterFirstPass(BUSY);
  one.send(one.leftWork);
  one.stop(1100);
  const left = one.leftWork;
  one.stop(50_000);
  assert.is(one.leftWork, left);
  assert.not(one.runs);
});

test('after a stop follow the rest, the pages in the log, and device state', () => {
  const idle = afterFirstPass({ kind: 'idle' });
  idle.stop(2000);
  assert.is(idle.leftWork, DEVICE_BYTES);
  const busy = afterFirstPass(BUSY);
  busy.send(busy.leftWork);
  busy.stop(1100);
  const dirtied = distinctPages(BUSY, PAGES, 1000, 1100);
  assert.ok(Math.abs(busy.leftWork - dirtied * NORMAL_PAGE_WIRE_BYTES - DEVICE_BYTES) < 1);
});

test('a page that is unsent and dirty again is sent once', () => {
  const one = afterFirstPass(BUSY);
  one.stop(60_000);
  const most = 64 * MIB * (NORMAL_PAGE_WIRE_BYTES / PAGE_BYTES) + DEVICE_BYTES + 1;
  assert.ok(one.leftWork <= most, `${one.leftWork}`);
});

test('a VM that is stopped in its first pass sends every page once, or again if it must', () => {
  const one = new ModelledVm(vm(GIB, BUSY, { zeroShare: 0 }));
  one.migrate(0);
  one.send(one.leftWork / 2);
  one.stop(500);
  one.send(one.leftWork);
  const repeated = one.normalPages - PAGES;
  const logged = distinctPages(BUSY, PAGES, 0, 500);
  assert.ok(Math.abs(repeated - logged / 2) < 1, 'half of the dirty ones had been sent');
});

test('stop-copy: migrating a stopped VM sends all memory and device state', () => {
  const one = new ModelledVm(vm(GIB, BUSY, { zeroShare: 0 }));
  one.stop(100);
  one.migrate(100);
  assert.is(one.leftWork, PAGES * NORMAL_PAGE_WIRE_BYTES + DEVICE_BYTES);
});

/** So many bytes, and when they have been carried. */
class Parcel implements Stream {
  leftWork: number;
  arrivedMs = Number.NaN;
  readonly #host: Host;
  readonly #events: Events;

  constructor(host: Host, events: Events, bytes: number) {
    this.#host = host;
    this.#events = events;
    this.leftWork = bytes;
  }

  send(work: number): void {
    this.leftWork -= work;
  }

  onReached(): void {
    this.arrivedMs = this.#events.nowMs;
    this.#host.hold(this);
  }
}

test('streams share a host equally, and none is faster than it can be alone', () => {
  const events = new Events();
  const host = new Host(events, ONE_HOST);
  const [small, large, late] = [0.3e9, 1.5e9, 0.5e9].map((bytes) => {
    return new Parcel(host, events, bytes);
  }) as [Parcel, Parcel, Parcel];
  host.flow(small);
  host.flow(large);
  events.at(1000, () => host.flow(late));
  events.at(1100, () => host.hold(large));
  events.at(2000, () => host.flow(large));
  events.run(() => false, 10_000);
  assert.is(Math.round(small.arrivedMs), 400, 'half of the host');
  // 300 MB together, 600 alone, 75 together again; it waits, and has the rest to itself.
  assert.is(Math.round(late.arrivedMs), 1525);
  assert.is(Math.round(large.arrivedMs), 2525);
});

test.run();
