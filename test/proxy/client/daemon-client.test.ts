/** The client and a daemon's routes, over a unix socket: all that is sent arrives whole. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DaemonClient } from '../../../proxy/client/daemon-client.ts';
import { holdEpoch } from '../../../proxy/client/epoch-hold.ts';
import { buildApi } from '../../../proxy/coordinator/api.ts';
import { reportRound } from '../../../proxy/coordinator/rounds/round-report.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { apiSocket, listenPrivately } from '../../../proxy/host/private-socket.ts';
import { OPERATIONS } from '../../../proxy/protocol/operator.ts';
import type { RestoreProgress } from '../../../proxy/protocol/progress.ts';
import type { RestoreReport } from '../../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../../proxy/protocol/status.ts';
import { scratchFolder } from '../../support/scratch.ts';

const FAILURE = {
  code: 'E_VM_GONE',
  message: 'm',
  member: 'a',
  where: 'open',
  hint: 'h',
  missingBytes: 5,
};
const SUMMARY = {
  round: 'r000001-00000000',
  epoch: 1,
  startedAt: '2026-01-01T00:00:00.000Z',
  durationMs: 2000,
  endReason: 'no-progress',
  policy: 'parallel',
  predictedDowntimeMs: Number.POSITIVE_INFINITY,
  rawPredictedDowntimeMs: 20,
  failure: undefined,
};
const FACTS = {
  reservedBytes: 1,
  qemuVersion: '10.0.2',
  capture: 'background',
  captureReason: 'r',
  cut: 'frames-held',
  framesNotHeld: 'f',
  releasedAtUs: 1767225601020000,
  waitedShare: 0.5,
  writableDisks: ['hd0'],
  disks: [{ device: 'hd0', layers: [{ path: '/a', format: 'raw' }], layer: '/b' }],
  stoppedAtUs: 1767225601000000,
  resumedAtUs: 1767225601010000,
  liveMs: 1,
  drainMs: 2,
  sealMs: 3,
  heldMs: 4,
  flow: [{ state: 'live', fromMs: 1767225600000, toMs: 1767225600500 }],
  passes: 5,
  repeatedPages: 6,
  missedPages: 7,
  compareMs: 8,
  liveBytes: 9,
  drainBytes: 10,
  shadow: 'f'.repeat(64),
  storedBytes: 11,
  stored: 'delta',
} as const;
const ROUND = reportRound(SUMMARY, new Map([['a', FACTS]]), new Map([['a', 30]]));
const RESTORE: RestoreReport = {
  kind: 'restore',
  epoch: 1,
  durationMs: 1,
  verifyMs: 2,
  fetchMs: undefined,
  loadMs: 3,
  skewMs: 0.5,
  killed: ['a'],
  members: [{ member: 'a', mode: 'stream', loadMs: 1, bytes: 2, reason: 'r' }],
};
const EPOCH = {
  epoch: 1,
  createdAt: '2026-01-01T00:00:00.000Z',
  members: 1,
  pinned: false,
  inMemory: true,
  onDisk: false,
  persisting: 0.25,
  failure: FAILURE,
};
const STATUS: ClusterStatus = {
  cluster: 'demo',
  busy: 'checkpoint',
  persist: {
    directory: '/d',
    mode: 'background',
    doubt: 'tmpfs',
    persisting: { epoch: 1, share: 0.5 },
    failure: FAILURE,
    retryAt: '2026-01-01T00:00:00.000Z',
    last: { epoch: 1, durationMs: 1, contentBytes: 2, storedBytes: 3 },
  },
  queued: FAILURE,
  members: [
    {
      member: 'a',
      status: 'running',
      running: true,
      qemuVersion: '10.0.2',
      pid: 1,
      proxyPid: 2,
      owned: true,
    },
  ],
  epochs: [EPOCH],
  lastRound: ROUND,
  lastRestore: RESTORE,
  schedule: { nextAt: '2026-01-01T00:00:00.000Z', reason: 'r', failure: undefined },
  predictionErrorMedian: 0.1,
};
const STEPS: RestoreProgress[] = [
  { kind: 'restore-progress', step: 'plan' },
  { kind: 'restore-progress', step: 'loaded', member: 'a' },
];

let directory = '';
let releases = 0;
let endHold: () => void = () => {};
let api: FastifyInstance | undefined;
let other: Server | undefined;

/** Stands in for a coordinator: each answer has every field that there can be. */
const coordinator = {
  status: async () => STATUS,
  epochs: async () => [{ ...EPOCH, ageMs: 5, space: { ownBytes: 1, sharedBytes: 2 } }],
  rounds: async () => ['r000001-00000000'],
  report: async (round: string) => ({ ...ROUND, round }),
  checkpoint: async () => {
    throw UmbraError.received(FAILURE);
  },
  restore: async (
    epoch: number | undefined,
    options: object,
    tell: (progress: RestoreProgress) => void,
  ) => {
    const usual = {
      mode: 'auto',
      verify: 'changed',
      from: 'auto',
      qemu: 'installed',
      clock: 'keep',
    };
    assert.equal(options, { ...usual, replace: true });
    for (const step of STEPS) tell(step);
    return { ...RESTORE, epoch };
  },
  hold: async (epoch = 7, onEnd: () => void) => {
    endHold = onEnd;
    return { id: 'abc', epoch, release: () => releases++ };
  },
  requireHold: () => {
    if (releases === 0) return;
    throw new UmbraError({ code: 'E_HOLD_UNKNOWN', message: 'm' });
  },
  abort: () => true,
  verify: async () => ['memory', 'disk'],
  pin: async () => {},
  removeEpoch: async () => {},
};

const test = suite('daemon client');

test.before.each(async () => {
  directory = mkdtempSync(join(scratchFolder(), 'umbra-client-'));
  releases = 0;
  api = buildApi(coordinator as never, pino({ level: 'silent' }), {
    shutdown: () => {},
    reload: async () => ({ applied: [] }),
  });
  await listenPrivately(api, apiSocket(directory));
});
test.after.each(async () => {
  await api?.close();
  other?.closeAllConnections();
  other?.close();
  other = undefined;
  rmSync(directory, { recursive: true, force: true });
});

async function withClient<T>(use: (daemon: DaemonClient) => Promise<T>, answerLimitMs = 0) {
  const daemon = new DaemonClient('demo', directory, { answerLimitMs });
  try {
    return await use(daemon);
  } finally {
    await daemon.close();
  }
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'nothing was refused',
    (error: UmbraError) => error.code,
  );
}

/** Puts another server in the place of the daemon. */
async function answerWith(status: number, text: string | undefined): Promise<void> {
  await api?.close();
  api = undefined;
  rmSync(apiSocket(directory), { force: true });
  other = createServer((_request, response) => {
    if (text !== undefined) response.writeHead(status).end(text);
  });
  await new Promise<void>((done) => other?.listen(apiSocket(directory), done));
}

/** Returns a value as JSON keeps it. */
function sent<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

test('every answer arrives whole', () =>
  withClient(async (daemon) => {
    const params = { epoch: 3 };
    assert.equal(await daemon.ask('status', {}), sent(STATUS));
    const { epochs } = await daemon.ask('epochs', {});
    assert.equal(epochs, sent(await coordinator.epochs()));
    assert.equal(await daemon.ask('rounds', {}), { rounds: ['r000001-00000000'] });
    assert.equal(await daemon.ask('report', { params: { round: 'a/b' } }), {
      ...sent(ROUND),
      round: 'a/b',
    });
    assert.equal(await daemon.ask('abort', {}), { aborted: true });
    const places = ['memory', 'disk'];
    assert.equal(await daemon.ask('verify', { params }), { epoch: 3, intact: true, places });
    assert.equal(await daemon.ask('pin', { params }), { epoch: 3, pinned: true });
    assert.equal(await daemon.ask('unpin', { params }), { epoch: 3, pinned: false });
    assert.equal(await daemon.ask('removeEpoch', { params }), { epoch: 3, removed: true });
    assert.equal(await daemon.ask('shutdown', {}), { ending: true });
  }));

test('an infinite prediction is absent from a report: JSON has no such number', () => {
  assert.is(ROUND.predictedDowntimeMs, undefined);
});

test('lines are told one by one, and the last one is the report', () =>
  withClient(async (daemon) => {
    const told: RestoreProgress[] = [];
    const body = { epoch: 4, replace: true };
    const report = await daemon.follow('restore', { body }, (step) => told.push(step));
    assert.equal(told, STEPS);
    assert.equal(report, sent({ ...RESTORE, epoch: 4 }));
  }));

test('a failure arrives whole, be it an answer or the last line', () =>
  withClient(async (daemon) => {
    const failed = daemon.follow('checkpoint', { body: {} }, () => {});
    const error = await failed.catch((thrown: UmbraError) => thrown);
    assert.equal(error instanceof UmbraError && error.failure, FAILURE);
    assert.is(await codeOf(daemon.ask('pin', { params: { epoch: 0 } })), 'E_BAD_REQUEST');
  }));

test('a hold lasts as long as its client, or until the daemon ends it', async () => {
  const hold = await holdEpoch({ cluster: 'demo', directory }, undefined);
  assert.is(hold.epoch, 7);
  await hold.require();
  assert.is(releases, 0);
  await hold.release();
  for (let tries = 0; releases === 0 && tries < 500; tries++) {
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.is(releases, 1);
  releases = 0;
  const lost = await holdEpoch({ cluster: 'demo', directory }, 2);
  endHold();
  releases = 1;
  assert.is(await codeOf(lost.require()), 'E_CLONE_SOURCE');
  await lost.release();
});

test('an answer of another form is refused, and the error names the field', async () => {
  await answerWith(200, JSON.stringify({ ...STATUS, members: 'none' }));
  const error = await withClient((daemon) => daemon.ask('status', {})).catch((thrown) => thrown);
  assert.is(error.code, 'E_DAEMON_ANSWER');
  assert.match(error.message, /status.*members/);
});

test('fields that are not known are kept', async () => {
  await answerWith(200, JSON.stringify({ aborted: true, more: 1 }));
  const answer: object = await withClient((daemon) => daemon.ask('abort', {}));
  assert.equal(answer, { aborted: true, more: 1 });
});

test('a daemon that ends in the middle of an answer is lost', async () => {
  await answerWith(200, '{"kind":"restore-progress","step":"plan"}\n{"kin');
  const follow = withClient((daemon) => daemon.follow('restore', { body: {} }, () => {}));
  assert.is(await codeOf(follow), 'E_DAEMON_LOST');
});

test('a hung daemon is reported as silent when the time is over', async () => {
  await answerWith(200, undefined);
  const ask = withClient((daemon) => daemon.ask('status', {}), 200);
  assert.is(await codeOf(ask), 'E_DAEMON_SILENT');
});

test('the daemon of a clone’s source that hangs fails the clone, and not for ever', async () => {
  await answerWith(200, undefined);
  assert.is(await codeOf(holdEpoch({ cluster: 'demo', directory }, 1, 200)), 'E_CLONE_SOURCE');
});

test('without a socket, or with one that a dead daemon left, it does not run', async () => {
  await answerWith(200, '');
  const path = apiSocket(directory);
  other?.close();
  rmSync(path, { force: true });
  assert.is(await codeOf(withClient((daemon) => daemon.ask('status', {}))), 'E_DAEMON_DOWN');
});

test('the API has every operation of the table, and serves openapi.json', async () => {
  for (const { method, url } of Object.values(OPERATIONS)) {
    assert.ok(api?.hasRoute({ method, url }), `${method} ${url}`);
  }
  const answer = await api?.inject({ method: 'GET', url: '/v1/openapi.json' });
  assert.is(answer?.json().openapi, '3.1.0');
});

test.run();
