import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as R from '../../../../proxy/coordinator/rounds/round.ts';

const FAILURE = { code: 'E_TEST', message: 'it broke' };
const MEMBERS = ['a', 'b'];

/** A round, and everything it asked for so far. */
class Game {
  round: R.Round;
  readonly asked: string[] = [];

  constructor(members: readonly string[] = MEMBERS) {
    const first = R.begin(members);
    this.round = first.round;
    this.#note(first.actions);
  }

  event(event: R.RoundEvent): this {
    const { round, actions } = R.step(this.round, event);
    this.round = round;
    this.#note(actions);
    return this;
  }

  report(report: R.MemberMilestone, ...members: readonly string[]): this {
    for (const member of members.length === 0 ? this.round.members.names() : members) {
      this.event({
        type: 'report',
        member,
        report,
        ...(report === 'failed' && { failure: FAILURE }),
      });
    }
    return this;
  }

  live(): this {
    return this.report('admitted').report('live');
  }

  get state(): string {
    return R.ROUND_STATE_NAMES[this.round.state] ?? '';
  }

  /** Actions since the last call. */
  take(): string[] {
    return this.asked.splice(0);
  }

  #note(actions: readonly R.RoundAction[]): void {
    for (const action of actions) {
      this.asked.push(
        action.type === 'command' ? `${action.command} ${action.member}` : action.type,
      );
    }
  }
}

const test = suite('round');

test('a successful round, step by step', () => {
  const game = new Game();
  assert.equal(game.take(), ['prepare a', 'prepare b']);
  assert.equal(game.report('admitted', 'a').take(), []);
  assert.equal(game.report('admitted', 'b').take(), ['open a', 'open b']);
  assert.equal(game.report('live').take(), ['start a', 'start b']);
  game.event({ type: 'end', reason: 'enough' });
  assert.equal(game.take(), ['stop a', 'stop b']);
  assert.equal(game.report('stopped', 'b').take(), []);
  assert.equal(game.report('stopped', 'a').take(), ['barrier a', 'barrier b']);
  assert.equal(game.report('drained').report('resumed').report('sealed', 'a').take(), []);
  assert.equal(game.report('sealed', 'b').take(), ['publish']);
  assert.equal(game.event({ type: 'published' }).take(), ['commit a', 'commit b', 'done']);
  assert.is(game.state, 'committed');
  assert.is(game.round.endReason, 'enough');
});

test('a member that stops by itself ends the live phase of all', () => {
  const game = new Game().live();
  game.take();
  assert.equal(game.report('stopped', 'b').take(), ['stop a']);
  assert.match(game.round.endReason ?? '', 'b switched over by itself');
  assert.equal(game.report('stopped', 'a').take(), ['barrier a', 'barrier b']);
});

test('a member that stops while others are opening does not wait for ever', () => {
  const game = new Game().report('admitted').report('live', 'a').report('stopped', 'a');
  game.take();
  assert.equal(game.report('live', 'b').take(), ['start b', 'stop b']);
});

test('a single member is a cluster, too', () => {
  const game = new Game(['a']).live().event({ type: 'end', reason: 'enough' });
  assert.equal(game.report('stopped').take().at(-1), 'barrier a');
  game.report('sealed').event({ type: 'published' });
  assert.is(game.state, 'committed');
});

const STEPS: readonly ((game: Game) => Game)[] = [
  (game) => game,
  (game) => game.report('admitted', 'a'),
  (game) => game.report('admitted'),
  (game) => game.live(),
  (game) => game.live().event({ type: 'end', reason: 'enough' }),
  (game) => game.live().report('stopped', 'a'),
  (game) => game.live().report('stopped'),
  (game) => game.live().report('stopped').report('sealed', 'a'),
];

for (const [index, reach] of STEPS.entries()) {
  for (const how of ['failed', 'gone', 'aborted'] as const) {
    test(`b ${how} at step ${index}: all are told, and the round waits until all run`, () => {
      const game = reach(new Game());
      game.take();
      game.report(how, 'b');
      assert.is(game.state, 'aborting');
      assert.equal(game.take(), ['abort a']);
      if (how === 'failed') game.report('aborted', 'b');
      assert.is(game.state, 'aborting');
      assert.equal(game.report('aborted', 'a').take(), ['done']);
      assert.is(game.state, 'aborted');
      assert.ok(game.round.failure !== undefined);
    });
  }
}

test('the first failure is reported', () => {
  const game = new Game().live().report('failed', 'a');
  game.event({
    type: 'report',
    member: 'b',
    report: 'failed',
    failure: { code: 'E_2', message: '' },
  });
  assert.is(game.round.failure?.code, 'E_TEST');
});

test('once publishing has begun, only its failure aborts', () => {
  const game = () => new Game().live().report('stopped').report('sealed');
  assert.is(game().report('gone', 'a').state, 'committing');
  assert.is(game().event({ type: 'abort', failure: FAILURE }).state, 'committing');
  const failed = game().event({ type: 'publish-failed', failure: FAILURE });
  assert.is(failed.state, 'aborting');
  assert.is(failed.report('aborted').state, 'aborted');
});

test('a proxy lost after it sealed invalidates no epoch and delays no abort', () => {
  const game = () => new Game().live().report('stopped').report('sealed', 'a').report('gone', 'a');
  assert.equal(game().report('sealed', 'b').take().at(-1), 'publish');
  const aborted = game();
  aborted.take();
  assert.equal(aborted.report('failed', 'b').take(), []);
  assert.equal(aborted.report('aborted', 'b').take(), ['done']);
});

const REPORTS: readonly R.MemberMilestone[] = [
  'admitted',
  'live',
  'stopped',
  'drained',
  'resumed',
  'sealed',
  'failed',
  'aborted',
  'gone',
];

/** Copies a round: a step uses up the one it is given. */
function copyOf(round: R.Round): R.Round {
  return { ...round, members: round.members.copy() };
}

/** Returns all rounds that any order of events can lead to. */
function reachable(): Map<string, R.Round> {
  const key = (round: R.Round) =>
    JSON.stringify([round.state, [...round.members], round.failure?.code]);
  const first = R.begin(MEMBERS).round;
  const found = new Map([[key(first), first]]);
  for (const round of found.values()) {
    for (const event of events()) {
      const next = R.step(copyOf(round), event).round;
      if (!found.has(key(next))) found.set(key(next), next);
    }
  }
  return found;
}

function events(): R.RoundEvent[] {
  const reports = MEMBERS.flatMap((member) =>
    REPORTS.map((report) => ({ type: 'report', member, report, failure: FAILURE }) as const),
  );
  const others = [
    { type: 'end', reason: 'x' },
    { type: 'abort', failure: FAILURE },
    { type: 'published' },
    { type: 'publish-failed', failure: FAILURE },
  ] as const;
  return [...reports, ...others];
}

test('in any order of events: no early barrier, no early publication, no early end', () => {
  const rounds = reachable();
  assert.is(new Set([...rounds.values()].map(({ state }) => state)).size, 9);
  for (const round of rounds.values()) {
    for (const event of events()) {
      const { round: next, actions } = R.step(copyOf(round), event);
      const at = `${R.ROUND_STATE_NAMES[round.state]} + ${JSON.stringify(event)}`;
      const phases = [...next.members].map(([, phase]) => phase);
      for (const action of actions) {
        if (action.type === 'command' && action.command === 'barrier') {
          assert.ok(
            phases.every((phase) => phase === 'stopped'),
            at,
          );
        }
        if (action.type === 'publish')
          assert.ok(
            phases.every((one) => one === 'sealed' || one === 'left'),
            at,
          );
        if (action.type === 'done' && next.state === R.ABORTED) {
          assert.ok(
            phases.every((phase) => ['aborted', 'gone', 'left'].includes(phase)),
            at,
          );
        }
      }
      if (R.isOver(round)) assert.equal(actions, [], at);
    }
  }
});

test('from any round that is not over, an abort is answered by its end', () => {
  for (const round of reachable().values()) {
    if (R.isOver(round) || round.state === R.COMMITTING) continue;
    let now = R.step(copyOf(round), { type: 'abort', failure: FAILURE }).round;
    for (const member of MEMBERS) {
      now = R.step(now, { type: 'report', member, report: 'aborted' }).round;
    }
    assert.is(now.state, R.ABORTED);
  }
});

test.run();
