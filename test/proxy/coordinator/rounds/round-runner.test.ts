/** A round against an agent that reports when it is told to. */
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NO_CALIBRATION } from '../../../../policies/index.ts';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import { RoundRunner } from '../../../../proxy/coordinator/rounds/round-runner.ts';
import type { Agent, MemberMilestone } from '../../../../proxy/protocol/agent.ts';
import type { MemberSample } from '../../../../proxy/protocol/member.ts';
import type { RoundReport } from '../../../../proxy/protocol/report.ts';

const ROUND = 'r000001-0123abcd';
const CONFIG = parseClusterConfig(
  '{cluster: demo, members: [{name: a, qmp: /x}], round: {maxLive: 50ms}}',
  '/etc/cluster.yaml',
  '/nowhere',
);
/** Many times a step: a test process that is kept off the processor must not look like silence. */
const GRACE_MS = 400;
/** In which nothing may move: of the live phase, and more. */
const LIMIT_MS = 50 + GRACE_MS;
const STEP_MS = 20;
const ABORTED = { code: 'E_ROUND_ABORTED', message: 'the operator ended it' };

const test = suite('round runner');
/** Commands to the member. */
let commands: string[] = [];
let runner: RoundRunner;
/** Lets the manifest be written. */
let publish: () => void;
let running: Promise<RoundReport>;
let isOver = false;

test.before.each(() => {
  const published = new Promise<void>((resolve) => {
    publish = resolve;
  });
  commands = [];
  isOver = false;
  const agent: Partial<Agent> = {
    members: ['a'],
    beginRound: async () => {},
    endRound: () => {},
    alive: () => {},
    prepare: () => commands.push('prepare'),
    command: (_round, _member, command) => {
      commands.push(command);
      if (command === 'abort') queueMicrotask(() => report('aborted'));
    },
  };
  runner = new RoundRunner({
    round: ROUND,
    epoch: 1,
    config: CONFIG,
    agent: agent as Agent,
    calibration: NO_CALIBRATION,
    log: pino({ level: 'silent' }),
    publish: () => published,
    onProgress: () => {},
    graceMs: GRACE_MS,
  });
});

function run(): void {
  running = runner.run().finally(() => {
    isOver = true;
  });
}

function report(what: MemberMilestone): void {
  runner.onNotice({ type: 'report', member: 'a', round: ROUND, report: what, facts: {} });
}

function sample(bytes: number): void {
  const sample = { bytes } as MemberSample;
  runner.onNotice({ type: 'sample', member: 'a', round: ROUND, sample });
}

/** Runs the round until its member is being saved in the background. */
async function saving(): Promise<void> {
  run();
  await delay(0);
  for (const what of ['admitted', 'live', 'stopped', 'resumed'] as const) report(what);
}

test('a round that keeps saving memory is not given up, however long it takes', async () => {
  await saving();
  for (let bytes = 1; bytes <= (5 * LIMIT_MS) / STEP_MS; bytes++) {
    sample(bytes);
    await delay(STEP_MS);
  }
  assert.not(isOver);
  for (const what of ['drained', 'sealed'] as const) report(what);
  publish();
  assert.is((await running).failure, undefined);
});

test('a round whose samples do not change is given up', async () => {
  await saving();
  const sampler = setInterval(() => sample(1), STEP_MS);
  const { failure } = await running.finally(() => clearInterval(sampler));
  assert.is(failure?.code, 'E_ROUND_TIMEOUT');
  assert.is(commands.at(-1), 'abort');
});

test('aborted while its folder is made, a round ends as soon as it has begun', async () => {
  run();
  assert.ok(runner.abort(ABORTED));
  assert.equal(commands, [], 'no member has heard of it');
  assert.is((await running).failure?.code, 'E_ROUND_ABORTED');
  assert.equal(commands, ['prepare', 'abort']);
});

test('while its epoch is published a round cannot be aborted, and abort says so', async () => {
  await saving();
  for (const what of ['drained', 'sealed'] as const) report(what);
  assert.not(runner.abort(ABORTED));
  publish();
  assert.is((await running).failure, undefined);
  assert.not(runner.abort(ABORTED), 'it stands');
});

test.run();
