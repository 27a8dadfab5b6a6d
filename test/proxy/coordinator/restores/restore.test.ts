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
    ...changes,
  };
}

function restore(of: RestoringAgent, options = OPTIONS) {
  const log = pino({ level: 'silent' });
  const askedAt = performance.now();
  return restoreEpoch({ agent: of, epoch: EPOCH, options, askedAt, log, onProgress: () => {} });
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
