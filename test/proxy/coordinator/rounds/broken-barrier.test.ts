import { execFileSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BrokenBarrier } from '../../../../proxy/coordinator/rounds/broken-barrier.ts';
import {
  begin,
  COMMITTING,
  type MemberMilestone,
  type Round,
  STOPPING,
  step,
} from '../../../../proxy/coordinator/rounds/round.ts';

const test = suite('broken barrier');

/** A round run as the runner runs it, and who was let past ahead of the others. */
function brokenRound(): {
  report: (member: string, report: MemberMilestone) => Round;
  past: string[];
} {
  const past: string[] = [];
  const barrier = new BrokenBarrier((member) => past.push(member));
  let { round } = begin(['n0', 'n1']);
  const report = (member: string, what: MemberMilestone) => {
    const event = { type: 'report', member, report: what } as const;
    if (!barrier.keeps(event, round)) round = step(round, event).round;
    for (const kept of barrier.release(round)) round = step(round, kept).round;
    return round;
  };
  for (const what of ['admitted', 'live'] as const) {
    for (const member of ['n0', 'n1']) report(member, what);
  }
  return { report, past };
}

test('a member is let past as soon as it has stopped, and the round still ends', () => {
  const { report, past } = brokenRound();
  assert.is(report('n0', 'stopped').state, STOPPING);
  assert.equal(past, ['n0'], 'n1 still runs');
  for (const beyond of ['resumed', 'drained', 'sealed'] as const) {
    assert.is(report('n0', beyond).state, STOPPING);
  }
  for (const its of ['stopped', 'resumed', 'drained'] as const) report('n1', its);
  assert.equal(past, ['n0', 'n1']);
  assert.is(report('n1', 'sealed').state, COMMITTING);
});

function brokenIn(value: string): string {
  const module = new URL('../../../../proxy/failure/broken.ts', import.meta.url).href;
  const script = `import { brokenParts } from '${module}'; console.log(brokenParts().join())`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', script];
  const options = { env: { ...process.env, UMBRA_BREAK: value }, encoding: 'utf8' } as const;
  return execFileSync(process.execPath, args, { ...options, stdio: 'pipe' }).trim();
}

test('nothing is broken unless the environment says so', () => {
  assert.is(brokenIn(''), '');
  assert.is(brokenIn('barrier,hold'), 'barrier,hold');
  assert.throws(() => brokenIn('barier'), /barier is none of barrier, hold/);
});

test.run();
