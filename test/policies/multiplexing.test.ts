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

test('parallel: all flow, and those that are done take every second slot', () => {
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

test('round-robin: so many at a time, everyone in turn; those that are done wait', () => {
  const all = members(EARLY, EARLY, {}, EARLY);
  assert.equal(
    [0, 100, 200].map((at) => open(all, at, ROBIN)),
    ['n0 n1', 'n3 n0', 'n1 n3'],
  );
});

test('finish-together: whoever has the most to send', () => {
  const at = (...bytes: number[]) => {
    return open(members(...bytes.map((left) => ({ ...EARLY, firstPassBytes: left }))), 0, TOGETHER);
  };
  assert.is(at(10, 90, 30), 'n1');
  assert.is(at(10, 31, 30), 'n1 n2'); // as good as level: they go on together
  assert.is(at(10, 10, 10), 'n0 n1 n2');
});

test('finish-together: a member nothing is known of is heard first', () => {
  const unknown = { ...EARLY, ramBytes: 0 };
  assert.is(open(members({ ...EARLY, firstPassBytes: 90 }, unknown), 0, TOGETHER), 'n1');
});

test('when all have sent their memory once, all flow', () => {
  for (const policy of [PARALLEL, ROBIN, TOGETHER]) {
    assert.is(open(members({}, WAITING, {}), 0, policy), 'n0 n1 n2');
  }
});

test('somebody flows in every slot, and everybody gets there', () => {
  const policies = fc.constantFrom(PARALLEL, ROBIN, TOGETHER);
  const sizes = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(policies, sizes, (policy, work) => {
      const left = [...work];
      for (let slot = 0; left.some((bytes) => bytes > 0); slot++) {
        const all = members(
          ...left.map((bytes) => ({ firstPassDone: bytes === 0, firstPassBytes: bytes })),
        );
        const { open: names } = chooseSlots(all, slot * policy.slotMs, policy);
        const unfinished = [...names].filter((name) => left[Number(name.slice(1))] !== 0);
        assert.ok(unfinished.length > 0);
        for (const name of unfinished) {
          const index = Number(name.slice(1));
          left[index] = Math.max(0, (left[index] ?? 0) - 25);
        }
        assert.ok(slot < 20 * 12);
      }
    }),
  );
});

test.run();
