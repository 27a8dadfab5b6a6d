import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { restoreEpoch } from '../../../../proxy/coordinator/restores/restore.ts';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import type { RestorePlan, RestoringAgent } from '../../../../proxy/protocol/agent.ts';
import type { RestoreOptions } from '../../../../proxy/protocol/operator.ts';
import { makeEpochManifest } from '../../../../shadow/index.ts';

const EPOCH = makeEpochManifest({
  cluster: 'demo',
  epoch: 3,
  round: 'r000003-00000000',
  createdAt: '2030-01-01T00:00:00.000Z',
  members: [
    { name: 'a', shadow: 'f'.repeat(64) },
    { name: 'b', shadow: 'f'.repeat(64) },
  ],
});
const OPTIONS: RestoreOptions = {
  mode: 'auto',
  replace: false,
  verify: 'changed',
  qemu: 'installed',
  from: 'auto',
  clock: 'keep',
};

const test = suite('restore');
let done: string[] = [];

test.before.each(() => {
  done = [];
});

function planOf(member: string): RestorePlan {
  return {
    member,
    mode: 'map',
    reason: undefined,
    byStream: undefined,
    note: undefined,
    commandLine: ['qemu'],
    recordedCommandLine: ['qemu'],
    workingDirectory: '/',
    shadowDirectory: '/s',
    disks: [],
    mappedDirectory: '/s',
  };
}

/** Returns an agent that succeeds in everything, and notes it; `changes` replaces parts. */
function agent(changes: Partial<RestoringAgent> = {}): RestoringAgent {
  const note = <T>(what: string, value: T) => {
    done.push(what);
    return Promise.resolve(value);
  };
  return {
    verify: () => note('verified', undefined),
    planRestore: ({ members }) => Promise.resolve(members.map(({ name }) => planOf(name))),
    alivePids: () => Promise.resolve(new Map()),
    rehearse: async () => {},
    killVm: (member) => note(`kill ${member}`, undefined),
    beginRestore: () => note('begin', undefined),
    endRestore: (how) => note(how, undefined),
    load: ({ member, mode }) => note(`load ${member}`, { member, mode, loadMs: 1, bytes: 1 }),
    resume: (member) => note(`resume ${member}`, 1000),
    catchUpClock: (member) =>
      note(`clock ${member}`, { offMs: member === 'a' ? -1 : 2, withinMs: 1, behindMs: 5 }),
    ...changes,
  };
}

function restore(of: RestoringAgent, options = OPTIONS, epoch = EPOCH) {
  const log = pino({ level: 'silent' });
  const askedAt = performance.now();
  return restoreEpoch({ agent: of, epoch, options, askedAt, log, onProgress: () => {} });
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: UmbraError) => error.code,
  );
}

const corrupt = () =>
  Promise.reject(new UmbraError({ code: 'E_EPOCH_CORRUPT', message: 'rotten', where: 'verify' }));

test('all are loaded, then all resume', async () => {
  await restore(agent());
  assert.ok(done.indexOf('load b') < done.indexOf('resume a'));
  assert.is(done.at(-1), 'done');
});

/** Returns members whose VMs were stopped so long before they ran again, milliseconds. */
function stoppedFor(lags: Readonly<Record<string, number | undefined>>) {
  const shadow = 'f'.repeat(64);
  const members = Object.entries(lags).map(([name, lagMs]) => {
    return {
      name,
      shadow,
      stoppedAtUs: lagMs === undefined ? undefined : RESUMED_US - lagMs * 1000,
    };
  });
  return { ...EPOCH, members };
}

const RESUMED_US = 2_000_000_000_000_000;
const resumeAtOnce = () => Promise.resolve(RESUMED_US);

test('each clock lags by the time from its own cut to its own resumption', async () => {
  const epoch = stoppedFor({ a: 12_345.678, b: 12_000 });
  const later = (member: string) => Promise.resolve(RESUMED_US + (member === 'b' ? 500_000 : 0));
  const { members, clockSpreadMs } = await restore(agent({ resume: later }), OPTIONS, epoch);
  assert.equal(
    members.map(({ clockLagMs, clock }) => [clockLagMs, clock]),
    [
      [12_345.678, 'kept'],
      [12_500, 'kept'],
    ],
  );
  assert.is(clockSpreadMs, undefined);
  assert.not(
    done.some((step) => step.startsWith('clock')),
    'no agent is asked',
  );
});

test('a lag is negative if the clock was set back, and absent for epochs of 0.1', async () => {
  const epoch = stoppedFor({ a: -3_600_000, b: undefined });
  const { members } = await restore(agent({ resume: resumeAtOnce }), OPTIONS, epoch);
  assert.equal(
    members.map(({ clockLagMs }) => clockLagMs),
    [-3_600_000, undefined],
  );
});

test('clocks are caught up when all VMs run and the restore is over', async () => {
  const { members, clockSpreadMs } = await restore(agent(), { ...OPTIONS, clock: 'catch-up' });
  assert.equal(done.slice(-3), ['done', 'clock a', 'clock b']);
  assert.equal(
    members.map(({ clock, clockOffMs, clockWithinMs }) => [clock, clockOffMs, clockWithinMs]),
    [
      ['caught-up', -1, 1],
      ['caught-up', 2, 1],
    ],
  );
  assert.is(clockSpreadMs, 3);
});

test('a clock that is not caught up is a note, and the VMs run on', async () => {
  const fail = (code: 'E_GUEST_AGENT' | 'E_GUEST_CLOCK') =>
    Promise.reject(new UmbraError({ code, message: 'no' }));
  const of = agent({
    resume: resumeAtOnce,
    catchUpClock: (member) => fail(member === 'a' ? 'E_GUEST_AGENT' : 'E_GUEST_CLOCK'),
  });
  const options = { ...OPTIONS, clock: 'catch-up' } as const;
  const { members } = await restore(of, options, stoppedFor({ a: 1000, b: 2000 }));
  assert.not(done.includes('undo'));
  assert.equal(
    members.map(({ clock, clockLagMs, clockFailure }) => [clock, clockLagMs, clockFailure?.code]),
    [
      ['no-agent', 1000, 'E_GUEST_AGENT'],
      ['kept', 2000, 'E_GUEST_CLOCK'],
    ],
  );
  assert.is(members[0]?.clockFailure?.member, 'a');
});

test('its time ends at QEMU’s own time of the last resumption', async () => {
  const lateMs = 50;
  const verify = () => delay(20); // starting VMs takes time, too
  const resume = async () => {
    const at = Date.now() * 1000;
    await delay(lateMs);
    return at;
  };
  const askedAt = performance.now();
  const { durationMs } = await restore(agent({ verify, resume }));
  const tookMs = performance.now() - askedAt;
  assert.ok(durationMs >= 0 && durationMs <= tookMs - lateMs + 3, `${durationMs} of ${tookMs} ms`);
});

test('a clock that was set during the restore is not used', async () => {
  for (const hours of [-2, 2]) {
    const resume = async () => (Date.now() + hours * 3_600_000) * 1000;
    const askedAt = performance.now();
    const { durationMs } = await restore(agent({ resume }));
    assert.ok(durationMs >= 0 && durationMs <= performance.now() - askedAt);
  }
});

test('no VM resumes before the epoch is verified; damage undoes what was started', async () => {
  let found = (): void => {};
  const looking = new Promise<void>((resolve) => {
    found = resolve;
  });
  const restored = codeOf(restore(agent({ verify: () => looking.then(corrupt) })));
  while (!done.includes('load b')) await new Promise(setImmediate);
  found();
  assert.is(await restored, 'E_EPOCH_CORRUPT');
  assert.equal(
    done.filter((what) => /resume|undo|done/.test(what)),
    ['undo'],
  );
});

test('nothing is killed or started for an epoch that is damaged, when VMs run', async () => {
  const alivePids = () => Promise.resolve(new Map([['a', 7]]));
  const replaced = restore(agent({ verify: corrupt, alivePids }), { ...OPTIONS, replace: true });
  assert.is(await codeOf(replaced), 'E_EPOCH_CORRUPT');
  assert.equal(done, []);
});

test('nor when every byte has to be read first', async () => {
  const read = restore(agent({ verify: corrupt }), { ...OPTIONS, verify: 'all' });
  assert.is(await codeOf(read), 'E_EPOCH_CORRUPT');
  assert.equal(done, []);
});

test('a restore over running VMs is refused', async () => {
  const alivePids = () => Promise.resolve(new Map([['a', 7]]));
  assert.is(await codeOf(restore(agent({ alivePids }))), 'E_MEMBERS_RUNNING');
  assert.equal(done, ['verified']);
});

test('a QEMU that dies before its resumption: all is undone, and tried once more', async () => {
  let deaths = 1;
  const resume = (member: string) => {
    done.push(`resume ${member}`);
    const dies = member === 'b' && deaths-- > 0;
    const failure = { code: 'E_QMP_CLOSED', message: 'gone', member, where: 'resume' };
    return dies ? Promise.reject(UmbraError.received(failure)) : Promise.resolve(1000);
  };
  await restore(agent({ resume }));
  assert.equal(
    done.filter((what) => /undo|done/.test(what)),
    ['undo', 'done'],
  );
  deaths = 2;
  assert.is(await codeOf(restore(agent({ resume }))), 'E_QMP_CLOSED');
});

test.run();
