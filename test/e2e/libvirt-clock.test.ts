/** The clock of a libvirt domain's guest after a restore: libvirt asks the guest's agent. */
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { GuestControl } from '../../tools/guest/control.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { clockBounds } from '../support/guest-clock.ts';
import { suite } from '../support/suite.ts';

const DOMAIN = 'timed';
/** Age of the epoch: its lag can be told from anything else. */
const AGE_MS = 3_000;
/** Differences of clocks that are no error: of QEMU's time stamps, and of the guest's clock. */
const SLACK_MS = 100;

const test = suite('libvirt clock');
let pair: LibvirtPair;
let control: GuestControl | undefined;

const connect = async () => {
  control?.close();
  control = await GuestControl.connect(pair.wire(`${DOMAIN}.control`).b);
  await control.waitBoot();
};

async function shell(command: string): Promise<string> {
  if (control === undefined) throw new Error('no control channel');
  const { output, exitCode } = await control.run(command);
  assert.is(exitCode, 0, `${command}: ${output}`);
  return output;
}

test.before(async () => {
  pair = await LibvirtPair.create();
  const node = { index: 0, nodes: 1 };
  await pair.b.create(pair.xml({ name: DOMAIN, memoryMiB: 192, node, agent: true }));
  await connect();
  await shell('while ! pidof qemu-ga; do sleep 0.1; done');
  await pair.json('attach', pair.b.uri);
});

test.after(async () => {
  control?.close();
  await pair?.umbra('down', '--purge');
  pair?.dispose();
});

async function restore(clock: 'keep' | 'catch-up') {
  control?.close();
  await pair.b.ask('destroy', DOMAIN);
  const { members } = await pair.json<RestoreReport>('restore', '--clock', clock);
  await connect();
  const [member] = members;
  if (member === undefined) throw new Error('no member');
  return member;
}

test('kept: it lags by what the report says', async () => {
  const before = await clockBounds(shell);
  const { members } = await pair.json<RoundReport>('checkpoint');
  const stoppedAtMs = (members[0]?.stoppedAtUs ?? Number.NaN) / 1000;
  while (!(Date.now() - stoppedAtMs > AGE_MS)) await sleep(20);
  const { clockLagMs = Number.NaN, clock } = await restore('keep');
  const after = await clockBounds(shell);
  assert.is(clock, 'kept');
  const [least, most] = [before.least - after.most, before.most - after.least];
  const words = `it fell behind by ${least} to ${most} ms, report: ${clockLagMs}`;
  assert.ok(clockLagMs > AGE_MS, words);
  assert.ok(clockLagMs >= least - SLACK_MS && clockLagMs <= most + SLACK_MS, words);
});

test('caught up: libvirt has the agent set it', async () => {
  const member = await restore('catch-up');
  const { clock, clockLagMs = 0, clockOffMs = Number.NaN, clockWithinMs = 0 } = member;
  const { least, most } = await clockBounds(shell);
  const words = `it is off by ${least} to ${most} ms, report: ${JSON.stringify(member)}`;
  assert.is(clock, 'caught-up', words);
  assert.ok(least <= clockOffMs + clockWithinMs + SLACK_MS, words);
  assert.ok(most >= clockOffMs - clockWithinMs - SLACK_MS, words);
  assert.ok(most > -clockLagMs / 2 && least <= SLACK_MS, words);
});

test('an agent that has ended is a note, and the domain runs', async () => {
  await shell('kill $(pidof qemu-ga)');
  await pair.json('checkpoint');
  const { clock, clockFailure } = await restore('catch-up');
  assert.is(clock, 'no-agent', JSON.stringify(clockFailure));
  assert.match(clockFailure?.message ?? '', /the guest agent is not reached by libvirt: "/);
  assert.is(await pair.b.ask('domstate', DOMAIN), 'running');
});

test.run();
