import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseSlots, type Multiplexing } from '../../policies/index.ts';
import { EARLY, members, WAITING } from './member.ts';

const test = suite('multiplexing');

const PARALLEL: Multiplexing = { kind: 'parallel', slotMs: 100, dirtyShare: 0.5 };
const ROBIN: Multiplexing = { kind: 'round-robin', slotMs: 100, atOnce: 2 };
const TOGETHER: Multiplexing = { kind: 'finish-together', slotMs: 100, atOnce: 1 };

function open(all: ReturnType<typeof members>, elapsedMs: number, policy: Multiplexing): string {
  return [...chooseSlots(all, elapsedMs, policy).open].join(' ');
}

test('parallel: all flow; members with their first pass done take every second slot', () => {
  const all = members(EARLY, {}, EARLY);
  assert.equal(
    [0, 100, 200, 300].map((at) => open(all, at, PARALLEL)),
    ['n0 n2', 'n0 n2 n1', 'n0 n2', 'n0 n2 n1'],
  );
});

test('parallel: a share of a quarter is every fourth slot', () => {
  const all = members(EARLY, {});
  const policy: Multiplexing = { kind: 'parallel', slotMs: 100, dirtyShare: 0.25 };
  const slots = Array.from({ length: 8 }, (_, slot) => open(all, slot * 100, policy));
  assert.is(slots.filter((names) => names.includes('n1')).length, 2);
});

test('round-robin: a fixed number in turn; members that are done wait', () => {
  const all = members(EARLY, EARLY, {}, EARLY);
  assert.equal(
    [0, 100, 200].map((at) => open(all, at, ROBIN)),
    ['n0 n1', 'n3 n0', 'n1 n3'],
  );
});

test('finish-together: the member with the most to send flows', () => {
  const at = (slot: number, ...bytes: number[]) => {
    const last = { ...EARLY, ramBytes: 50 };
    const others = bytes.map((left) => ({ ...EARLY, firstPassBytes: left }));
    return open(members(last, ...others), slot * 100, TOGETHER);
  };
  assert.is(at(0, 10, 90, 30), 'n2');
  assert.equal([at(0, 10, 31, 30), at(1, 10, 31, 30)], ['n2', 'n3']); // nearly equal: in turn
  assert.equal(
    [0, 1, 2, 3].map((slot) => at(slot, 10, 10, 10)),
    ['n1', 'n2', 'n3', 'n1'],
  );
});

test('finish-together: the smallest comes last, when the others have caught up', () => {
  const last = { ...EARLY, ramBytes: 50, passes: 1 };
  assert.is(open(members(last, {}, { ...EARLY }), 0, TOGETHER), 'n2');
  assert.is(open(members(last, { passes: 2 }, { passes: 3 }), 0, TOGETHER), 'n1');
  assert.is(open(members(last, { passes: 3 }, { passes: 3 }), 0, TOGETHER), 'n0 n1 n2');
});

test('finish-together: a member that may stream no more is not waited for', () => {
  const last = { ...EARLY, ramBytes: 50 };
  assert.is(open(members(last, { passes: 1, keptBack: true }), 0, TOGETHER), 'n0 n1');
  const all = members({ ...EARLY, ramBytes: 50 }, { passes: 2, liveBytes: 200, ramBytes: 100 });
  assert.equal([...chooseSlots(all, 0, TOGETHER, 2).open], ['n0', 'n1']);
});

test('finish-together: a member without samples flows first', () => {
  const unknown = { ...EARLY, ramBytes: 0 };
  assert.is(open(members({ ...EARLY, firstPassBytes: 90 }, unknown), 0, TOGETHER), 'n1');
});

test('no more members flow than there are slots, until the last one’s turn', () => {
  const policy: Multiplexing = { kind: 'finish-together', slotMs: 100, atOnce: 2 };
  const sizes = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 3, maxLength: 12 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 100 }), (left, slot) => {
      const all = members(
        ...left.map((bytes) => ({ ...EARLY, firstPassBytes: bytes, ramBytes: bytes + 500 })),
      );
      assert.is(chooseSlots(all, slot * 100, policy).open.size, 2);
    }),
  );
});

test('when all have sent their memory once, all flow', () => {
  for (const policy of [PARALLEL, ROBIN, TOGETHER]) {
    assert.is(open(members({}, WAITING, {}), 0, policy), 'n0 n1 n2');
  }
});

test('in every slot a member makes progress, and every member finishes', () => {
  const policies = fc.constantFrom(PARALLEL, ROBIN, TOGETHER);
  const sizes = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(policies, sizes, (policy, work) => {
      const all = work.map((bytes) => ({ bytes, passes: 1 }));
      for (let slot = 0; all.some(({ bytes }) => bytes > 0); slot++) {
        const estimates = members(
          ...all.map(({ bytes, passes }) => {
            return { firstPassDone: bytes === 0, firstPassBytes: bytes, passes };
          }),
        );
        const { open: names } = chooseSlots(estimates, slot * policy.slotMs, policy);
        let moved = false;
        for (const name of names) {
          const one = all[Number(name.slice(1))];
          if (one === undefined) continue;
          moved ||= one.bytes > 0 || one.passes < 3;
          one.bytes = Math.max(0, one.bytes - 25);
          if (one.bytes === 0) one.passes++;
        }
        assert.ok(moved, 'no flowing member has anything to send');
        assert.ok(slot < 30 * 12, 'a member never finishes');
      }
    }),
  );
});

test.run();
