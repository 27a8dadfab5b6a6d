/**
 * The guests' wall clocks after a restore. They lag by the epoch's age, as the report says; with
 * `catch-up` a real qemu-guest-agent sets each to the host's. An agent that does not answer is
 * a note, and the cluster runs.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { clockBounds } from '../support/guest-clock.ts';
import { suite } from '../support/suite.ts';

const NODES = 2;
/** Age of an epoch that is restored: its lag can be told from anything else. */
const AGE_MS = 3_000;
/** Differences of clocks that are no error: of QEMU's time stamps, and of the guest's clock. */
const SLACK_MS = 100;
const PORT = [
  ['-device', 'virtio-serial-pci'],
  ['-chardev', 'socket,id=agent,path={dir}/agent.sock,server=on,wait=off'],
  ['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
].flat();

const test = suite('clock');
let bed: Testbed;

test.before(async () => {
  bed = await Testbed.create({
    nodes: NODES,
    qemu: await newestQemu(),
    more: PORT,
    settings: { restore: { clock: 'catch-up' } },
  });
  await bed.up();
});
test.after(() => bed.dispose());

const offOf = (node: number) => clockBounds((command) => bed.shell(node, command));

const all = <T>(work: (node: number) => Promise<T>) =>
  Promise.all(Array.from({ length: NODES }, (_, node) => work(node)));

/** Takes an epoch, and waits until it is some seconds old. */
async function takeAndAge(): Promise<RoundReport> {
  const report = await bed.json<RoundReport>('checkpoint');
  const stops = report.members.map(({ stoppedAtUs = Number.NaN }) => stoppedAtUs / 1000);
  while (!(Date.now() - Math.max(...stops) > AGE_MS)) await sleep(20);
  return report;
}

async function agentFindings(): Promise<readonly (readonly [string, string])[]> {
  interface Answer {
    readonly findings: readonly { check: string; verdict: string; found: string }[];
  }
  const { stdout } = await bed.umbra('doctor', '--json');
  const { findings } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Answer;
  return findings
    .filter(({ check }) => check.endsWith(': guest agent'))
    .map(({ verdict, found }) => [verdict, found] as const);
}

/** Returns a node's part of a report, whose members may be in any order. */
function of<T extends { readonly member: string }>(members: readonly T[], node: number): T {
  const found = members.find(({ member }) => member === `n${node}`);
  if (found === undefined) throw new Error(`no n${node}`);
  return found;
}

const untilAgent = (node: number) =>
  bed.shell(node, 'while ! pidof qemu-ga >/run/agent; do sleep 0.1; done');

test('doctor finds the agents', async () => {
  await all(untilAgent);
  let findings = await agentFindings();
  // The agent has been started, and may not have opened its port yet.
  while (findings.some(([verdict]) => verdict !== 'ok')) findings = await agentFindings();
  assert.is(findings.length, NODES);
  for (const [, found] of findings)
    assert.match(found, /^answers; the guest’s clock is .* host’s$/);
});

test('kept: each clock lags by what the report says', async () => {
  const before = await all(offOf);
  const round = await takeAndAge();
  bed.killAll();
  const { members, clockSpreadMs } = await bed.json<RestoreReport>('restore', '--clock', 'keep');
  const after = await all(offOf);
  assert.is(clockSpreadMs, undefined);
  for (let node = 0; node < NODES; node++) {
    const { clockLagMs = 0, clock } = of(members, node);
    const { stoppedAtUs = 0 } = of(round.members, node);
    assert.is(clock, 'kept');
    assert.ok(clockLagMs > AGE_MS && clockLagMs < Date.now() - stoppedAtUs / 1000);
    // The clock may have been off before; what is added is the lag.
    const least = (before[node]?.least ?? 0) - (after[node]?.most ?? 0) - SLACK_MS;
    const most = (before[node]?.most ?? 0) - (after[node]?.least ?? 0) + SLACK_MS;
    const words = `n${node} fell behind by ${least} to ${most} ms, report: ${clockLagMs}`;
    assert.ok(clockLagMs >= least && clockLagMs <= most, words);
    assert.ok(most - least < AGE_MS, `measured too slowly: ${words}`);
  }
});

test('caught up: each clock is the host’s, as its agent says', async () => {
  bed.killAll();
  const { members, clockSpreadMs = Number.NaN } = await bed.json<RestoreReport>('restore');
  const after = await all(offOf);
  const offs: number[] = [];
  for (let node = 0; node < NODES; node++) {
    const member = of(members, node);
    const { clock, clockLagMs = 0, clockOffMs = Number.NaN, clockWithinMs = 0 } = member;
    assert.is(clock, 'caught-up', JSON.stringify(member));
    const { least = 0, most = 0 } = after[node] ?? {};
    const words = `n${node} is off by ${least} to ${most} ms, report: ${JSON.stringify(member)}`;
    assert.ok(least <= clockOffMs + clockWithinMs + SLACK_MS, words);
    assert.ok(most >= clockOffMs - clockWithinMs - SLACK_MS, words);
    assert.ok(most > -clockLagMs / 2, words);
    assert.ok(least <= SLACK_MS, `it is not ahead of the host’s: ${words}`);
    offs.push(clockOffMs);
  }
  assert.is(clockSpreadMs, Math.max(...offs) - Math.min(...offs));
});

test('what has become of the clocks is one line', async () => {
  const { stdout } = await bed.umbra('restore', '--replace');
  const line = /clocks of the guests: .* behind; 2 of 2 caught up, now off by .* apart$/m;
  assert.match(stdout, line);
  const kept = await bed.umbra('restore', '--replace', '--clock', 'keep');
  assert.match(kept.stdout, /clocks of the guests: .* behind \(kept/);
});

test('an agent that does not answer is a note; when it wakes up, it sets no clock', async () => {
  await bed.json('restore', '--replace');
  bed.hangUp();
  await bed.shell(1, 'kill -STOP $(pidof qemu-ga)');
  await takeAndAge();
  bed.killAll();
  const { members } = await bed.json<RestoreReport>('restore');
  const { clock, clockFailure } = of(members, 1);
  assert.is(of(members, 0).clock, 'caught-up');
  assert.is(clock, 'no-agent');
  assert.is(clockFailure?.code, 'E_GUEST_AGENT');
  assert.match(clockFailure?.message ?? '', 'does not answer');
  const { most } = await offOf(1);
  assert.ok(most < -AGE_MS / 2, `n1 runs, and its clock lags: ${most} ms`);
  const [, silent] = await agentFindings();
  assert.equal(silent, ['note', 'the guest agent does not answer']);
  await bed.shell(1, 'kill -CONT $(pidof qemu-ga)');
  while ((await agentFindings()).some(([verdict]) => verdict !== 'ok'));
  assert.ok((await offOf(1)).most < -AGE_MS / 2, 'what it was asked in its sleep is over');
});

test.run();
