import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  calibrate,
  type EndCondition,
  LivePhase,
  type Multiplexing,
  NO_CALIBRATION,
} from '../../../policies/index.ts';
import { COMMITTED } from '../../../proxy/coordinator/rounds/round.ts';
import {
  GIB,
  MIB,
  mixed4,
  ONE_HOST,
  randomCluster,
  repeatedCluster,
  vm,
} from '../../../tools/sim/clusters.ts';
import { CONDITIONS, MULTIPLEXINGS } from '../../../tools/sim/comparison.ts';
import { Random } from '../../../tools/sim/random.ts';
import { type Call, Recording } from '../../../tools/sim/replay.ts';
import { outcomeOf } from '../../../tools/sim/result.ts';
import {
  type ClusterSpec,
  namesOf,
  policyOf,
  type SimulationOptions,
  simulate,
} from '../../../tools/sim/simulation.ts';

const SEEDS = 300;
const LOSS_SEEDS = 150;
/** A switchover alone takes longer: this condition never holds. */
const NEVER: EndCondition = { kind: 'predicted-downtime', ms: 5 };
const FAST = { kind: 'working-set', bytesPerSecond: 4e9, workingSetBytes: GIB } as const;

const FIRST_PASS: Pick<SimulationOptions, 'endWhen' | 'multiplexing'> = {
  endWhen: [CONDITIONS['all-first-pass']],
  multiplexing: MULTIPLEXINGS.parallel,
};

function one(...members: ClusterSpec['members']): ClusterSpec {
  return { members, membersPerHost: members.length, bandwidth: ONE_HOST };
}

/** Draws everything about a round that may be drawn. */
function randomRound(seed: number): SimulationOptions {
  const random = new Random(seed).fork();
  const members = random.integer(1, 8);
  const cluster = randomCluster(seed, {
    members,
    membersPerHost: random.integer(1, members),
    ramBytesLeast: GIB / 16,
    ramBytesMost: GIB,
  });
  const conditions: readonly EndCondition[] = [
    { kind: 'all-first-pass' },
    { kind: 'any-first-pass' },
    { kind: 'no-progress' },
    { kind: 'predicted-downtime', ms: random.uniform(5, 500) },
    { kind: 'elapsed', ms: random.uniform(0, 3000) },
  ];
  const slotMs = random.uniform(20, 500);
  const atOnce = random.integer(1, members);
  const multiplexing = random.choice<Multiplexing>(
    { kind: 'parallel', slotMs, dirtyShare: random.uniform(0.05, 1) },
    { kind: 'round-robin', slotMs, atOnce },
    { kind: 'finish-together', slotMs, atOnce },
  );
  const drawn = cluster.members.map((member) => ({
    ...member,
    switchoverAck: random.next() < 0.7,
    waits: random.next() < 0.1,
  }));
  return {
    seed,
    cluster: { ...cluster, members: drawn },
    endWhen: conditions.filter(() => random.next() < 0.4),
    multiplexing,
    memoryBound: random.uniform(1, 3),
    maxLiveMs: random.uniform(500, 10_000),
  };
}

const test = suite('simulation');

test('the same seed is the same round; another is not', () => {
  const run = (seed: number) => simulate({ ...FIRST_PASS, seed, cluster: mixed4() });
  assert.equal(run(5), run(5));
  assert.is.not(run(5).clusterDowntimeMs, run(6).clusterDowntimeMs);
});

test('mixed4: idle members send little, busy ones send pages again', () => {
  const { perMember, outcome, barrierHeld } = simulate({
    ...FIRST_PASS,
    seed: 1,
    cluster: mixed4(),
  });
  assert.equal([outcome, barrierHeld], ['committed', true]);
  assert.is(Math.round(perMember.get('n0')?.repeatedPages ?? -1), 0);
  for (const busy of ['n1', 'n2', 'n3']) assert.ok((perMember.get(busy)?.repeatedPages ?? 0) > 0);
});

test(`promises are kept in ${SEEDS} random rounds`, () => {
  const ends = new Set<string | undefined>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { outcome, endReason } = simulate(randomRound(seed));
    assert.is(outcome, 'committed', `seed ${seed}`);
    ends.add(/switched over|^[a-z-]+/.exec(endReason ?? '')?.[0]);
  }
  for (const end of ['all-first-pass', 'any-first-pass', 'no-progress', 'memory-bound']) {
    assert.ok(ends.has(end), `${end} of ${[...ends]}`);
  }
});

test('a proxy may die at any time: every VM runs, and the round is whole or aborted', () => {
  const outcomes = new Set<string>();
  for (let seed = 1; seed <= LOSS_SEEDS; seed++) {
    const random = new Random(seed);
    const atMs = random.uniform(0, 1500);
    outcomes.add(simulate({ ...randomRound(seed), loss: { member: 0, atMs } }).outcome);
  }
  assert.equal([...outcomes].sort(), ['aborted', 'committed']);
});

test('a drain that outlasts the deadline is undone, and every VM runs', () => {
  const cluster = one(vm(GIB, FAST), vm(GIB / 4, { kind: 'idle' }));
  const late = simulate({ ...FIRST_PASS, seed: 1, cluster, stopDeadlineMs: 100 });
  assert.is(late.outcome, 'aborted');
});

for (const multiplexing of Object.values(MULTIPLEXINGS)) {
  test(`${multiplexing.kind}: a member that dirties faster than it streams ends the phase`, () => {
    for (const endWhen of [[CONDITIONS['no-progress']], [NEVER]]) {
      const cluster = one(vm(GIB, FAST), vm(GIB / 2, { kind: 'idle' }));
      const { endReason, liveBytesOverRamMax } = simulate({
        seed: 2,
        cluster,
        endWhen,
        multiplexing,
        maxLiveMs: 600_000,
      });
      assert.match(endReason ?? '', /^(no-progress|memory-bound)/);
      assert.ok(liveBytesOverRamMax <= 2.0001);
    }
  });
}

test('no-progress: the reason is found before the bound is', () => {
  const cluster = one(vm(2 * GIB, { ...FAST, workingSetBytes: GIB / 4 }));
  const { endReason } = simulate({
    ...FIRST_PASS,
    seed: 1,
    cluster,
    endWhen: [CONDITIONS['no-progress']],
    memoryBound: 3,
  });
  assert.match(endReason ?? '', /^no-progress: n0/);
});

test('the bound is kept to the byte, and what remains is drained', () => {
  const cluster = one(vm(GIB, FAST, { zeroShare: 0 }));
  for (const memoryBound of [1, 1.5, 2]) {
    const round = simulate({ ...FIRST_PASS, seed: 1, cluster, endWhen: [NEVER], memoryBound });
    assert.ok(round.liveBytesOverRamMax <= memoryBound + 1e-9);
    assert.ok(round.liveBytesOverRamMax > 0.99 * memoryBound, 'it was reached');
    assert.match(round.endReason ?? '', /^memory-bound/);
  }
});

test('members that wait delay no other, and are copied when they are stopped', () => {
  const waiting = { ...vm(GIB, { kind: 'idle' }), waits: true };
  for (const condition of Object.values(CONDITIONS)) {
    const cluster = one(vm(GIB / 2, { kind: 'idle' }), waiting);
    const round = simulate({ ...FIRST_PASS, endWhen: [condition], seed: 1, cluster });
    assert.ok(round.liveMs < 2000, `${condition.kind}: ${round.liveMs}`);
    assert.is(round.perMember.get('n1')?.liveBytes, 0);
    assert.ok((round.perMember.get('n1')?.drainBytes ?? 0) > 0.7 * GIB);
  }
  const alone = simulate({ ...FIRST_PASS, seed: 1, cluster: one(waiting) });
  assert.ok(alone.liveMs < 200, 'no member has a live phase');
});

test('without switchover-ack an idle VM stops by itself, and all the others with it', () => {
  const eager = vm(GIB / 4, { kind: 'idle' }, { switchoverAck: false });
  const cluster = one(eager, vm(GIB, { kind: 'idle' }));
  const byItself = simulate({ ...FIRST_PASS, seed: 1, cluster });
  assert.is(byItself.endReason, 'n0 switched over by itself');
  assert.ok(byItself.barrierHeld);
  const held = simulate({ ...FIRST_PASS, seed: 1, cluster: one(vm(GIB, { kind: 'idle' })) });
  assert.match(held.endReason ?? '', /^all-first-pass/);
});

test('calibration by earlier rounds makes the next prediction a good one', () => {
  let calibration = NO_CALIBRATION;
  const errors: number[] = [];
  for (let seed = 1; seed <= 8; seed++) {
    const endWhen = [CONDITIONS['predicted-downtime']];
    const round = simulate({ ...FIRST_PASS, seed, cluster: mixed4(), endWhen, calibration });
    calibration = calibrate(calibration, outcomeOf(round));
    const { predictedMs = Number.NaN, clusterDowntimeMs } = round;
    errors.push(Math.abs(predictedMs - clusterDowntimeMs) / clusterDowntimeMs);
  }
  const last = errors.slice(-4);
  assert.ok(Math.max(...last) < 0.5, `${errors.map((error) => error.toFixed(2))}`);
});

test('replayed calls of the coordinator lead to the same end', () => {
  const cluster = mixed4();
  const names = namesOf(cluster);
  const recording = new Recording(names);
  const note = (call: Call) => recording.add(call);
  const options = { ...FIRST_PASS, seed: 1, cluster, note };
  const { endReason } = simulate(options);
  const round = recording.replay(new LivePhase(names, policyOf(options), NO_CALIBRATION));
  assert.equal([round.state, round.endReason], [COMMITTED, endReason]);
});

test('a thousand members: skew as commands leave', () => {
  // A short live phase: only its end is looked at.
  const endWhen: EndCondition[] = [{ kind: 'elapsed', ms: 500 }];
  const round = simulate({ ...FIRST_PASS, seed: 1, cluster: repeatedCluster(1, 1000), endWhen });
  assert.is(round.outcome, 'committed');
  assert.ok(round.barrierHeld);
  assert.ok(round.skewMs > 1000 * 0.015 && round.skewMs < 30, `${round.skewMs}`);
});

test('a faster host makes a shorter round', () => {
  const cluster = one(vm(GIB, { kind: 'idle' }), vm(GIB, { kind: 'idle' }));
  const slow = simulate({ ...FIRST_PASS, seed: 1, cluster });
  const bandwidth = { streamBytesPerSecond: 4e9, hostBytesPerSecond: 8e9 };
  const fast = simulate({ ...FIRST_PASS, seed: 1, cluster: { ...cluster, bandwidth } });
  assert.ok(fast.liveMs < slow.liveMs / 2, `${fast.liveMs} of ${slow.liveMs}`);
  assert.ok(slow.totalBytes > 1.5 * GIB && slow.totalBytes < 1.51 * GIB + MIB);
});

test.run();
