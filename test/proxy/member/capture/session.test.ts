import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as S from '../../../../proxy/member/capture/session.ts';

type Type = S.SessionEvent['type'] | 'admitted, background';

const FAILURE = { code: 'E_TEST', message: 'it broke' };
const EVENTS: readonly Type[] = [
  'prepare',
  'open',
  'start',
  'stop',
  'barrier',
  'commit',
  'abort',
  'admitted',
  'admitted, background',
  'streaming',
  'vm-stopped',
  'drained',
  'vm-resumed',
  'sealed',
  'undone',
  'failed',
  'deadline',
  'orphaned',
];

function event(type: Type): S.SessionEvent {
  if (type === 'admitted, background') return { type: 'admitted', background: true };
  return type === 'failed' ? { type, failure: FAILURE } : { type };
}

interface Run {
  readonly session: S.Session;
  readonly actions: readonly S.SessionAction[];
}

/** Feeds events from a new session on; gives the end and every action on the way. */
function run(...types: readonly Type[]): Run {
  let session = S.NEW_SESSION;
  const actions: S.SessionAction[] = [];
  for (const type of types) {
    const next = S.step(session, event(type));
    session = next.session;
    actions.push(...next.actions);
  }
  return { session, actions };
}

function names({ actions }: Run): string[] {
  return actions.map((action) => (action.type === 'report' ? action.report : action.type));
}

const TO_LIVE: readonly Type[] = ['prepare', 'admitted', 'open', 'streaming', 'start'];

const test = suite('session');

test('a successful round', () => {
  const good = run(
    ...TO_LIVE,
    'stop',
    'vm-stopped',
    'drained',
    'barrier',
    'vm-resumed',
    'sealed',
    'commit',
  );
  assert.equal(names(good), [
    'admit',
    'admitted',
    'open',
    'live',
    'start',
    'arm-deadline',
    'stop',
    'stopped',
    'vote',
    'drained',
    'resume',
    'disarm-deadline',
    'resumed',
    'seal',
    'sealed',
    'release',
  ]);
  assert.equal(good.session, S.NEW_SESSION);
});

test('a background snapshot: resumed when all are cut, sealed when all is received', () => {
  const live: Type[] = ['prepare', 'admitted, background', 'open', 'streaming', 'start'];
  const cut = run(...live, 'stop', 'vm-stopped');
  assert.not(names(cut).includes('resume'));
  const saving = run(...live, 'stop', 'vm-stopped', 'barrier', 'vm-resumed');
  assert.is(saving.session.state, S.SAVING);
  assert.ok(names(saving).includes('disarm-deadline'), 'it stands no more');
  const saved = run(...live, 'stop', 'vm-stopped', 'barrier', 'vm-resumed', 'drained');
  assert.is(saved.session.state, S.SEALING);
  const early = run(...live, 'stop', 'vm-stopped', 'barrier', 'drained', 'vm-resumed');
  assert.is(early.session.state, S.SEALING);
  assert.equal(names(saved).slice(-3), ['vote', 'drained', 'seal']);
});

test('the drain may end before the stop is known, and before or after the barrier', () => {
  for (const order of [
    ['stop', 'drained', 'vm-stopped', 'barrier'],
    ['stop', 'vm-stopped', 'barrier', 'drained'],
    ['drained', 'vm-stopped', 'barrier'],
    ['vm-stopped', 'drained', 'barrier'],
    ['vm-stopped', 'stop', 'barrier', 'drained'],
  ] as const) {
    const { session } = run(...TO_LIVE, ...order);
    assert.is(session.state, S.RESUMING, order.join(' '));
  }
});

test('no resume before the barrier, whatever else happens', () => {
  const { actions } = run(...TO_LIVE, 'stop', 'vm-stopped', 'drained', 'drained', 'stop');
  assert.not(actions.some(({ type }) => type === 'resume'));
});

test('no resume before the drain is complete', () => {
  const { actions } = run(...TO_LIVE, 'stop', 'vm-stopped', 'barrier', 'barrier');
  assert.not(actions.some(({ type }) => type === 'resume'));
});

test('a VM that is resumed at the barrier invalidates the cut', () => {
  const { session, actions } = run(...TO_LIVE, 'stop', 'vm-stopped', 'vm-resumed');
  assert.is(session.state, S.UNDOING);
  const failed = actions.find((action) => action.type === 'report' && action.report === 'failed');
  assert.is(failed?.type === 'report' && failed.failure?.code, 'E_RESUMED_EARLY');
});

test('the deadline counts only while the VM is stopped', () => {
  assert.is(run(...TO_LIVE, 'deadline').session.state, S.LIVE);
  assert.is(run(...TO_LIVE, 'stop', 'deadline').session.state, S.UNDOING);
  assert.is(run(...TO_LIVE, 'stop', 'vm-stopped', 'deadline').session.state, S.UNDOING);
  const resumed = run(...TO_LIVE, 'vm-stopped', 'drained', 'barrier', 'vm-resumed', 'deadline');
  assert.is(resumed.session.state, S.SEALING);
});

test('a sealed shadow is dropped by the coordinator alone', () => {
  const sealed: readonly Type[] = [
    ...TO_LIVE,
    ...(['vm-stopped', 'drained', 'barrier', 'vm-resumed', 'sealed'] as const),
  ];
  assert.is(run(...sealed, 'failed').session.state, S.SEALED);
  const undo = (type: Type) => run(...sealed, type).actions.find((one) => one.type === 'undo');
  assert.equal(undo('orphaned'), { type: 'undo', keepShadow: true });
  assert.equal(undo('abort'), { type: 'undo', keepShadow: false });
});

/** Returns every session that can be reached, by any order of events. */
function reachable(): Map<string, S.Session> {
  const found = new Map([[JSON.stringify(S.NEW_SESSION), S.NEW_SESSION]]);
  for (const session of found.values()) {
    for (const type of EVENTS) {
      const next = S.step(session, event(type)).session;
      found.set(JSON.stringify(next), next);
    }
  }
  return found;
}

test('every state is reached', () => {
  const states = new Set([...reachable().values()].map(({ state }) => state));
  assert.is(states.size, S.STATE_NAMES.length);
});

test('from every state, in any order of events, the promises hold', () => {
  for (const session of reachable().values()) {
    for (const type of EVENTS) {
      const at = `${S.STATE_NAMES[session.state]} + ${type}`;
      const { session: next, actions } = S.step(session, event(type));
      const types = actions.map((action) => action.type);
      if (types.includes('resume')) {
        assert.ok(next.barrier && (next.drained || next.background), at);
      }
      if (types.includes('stop')) assert.ok(types.includes('arm-deadline'), at);
      if (types.includes('seal')) {
        assert.is(type, session.state === S.SAVING ? 'drained' : 'vm-resumed', at);
        assert.ok(next.drained, at);
      }
      if (next.state === S.UNDOING && session.state !== S.UNDOING) {
        assert.ok(types.includes('undo') && types.includes('disarm-deadline'), at);
      }
      const standing = session.state === S.STOPPED || session.state === S.STOPPING;
      if (standing && next.state === S.IDLE) assert.unreachable(`${at} forgets a stopped VM`);
      if (session.state !== S.IDLE && next.state === S.IDLE) {
        assert.ok(type === 'undone' || type === 'commit', at);
      }
    }
  }
});

test('every state but idle is left by abort and by losing the coordinator', () => {
  for (const session of reachable().values()) {
    if (session.state === S.IDLE) continue;
    for (const type of ['abort', 'orphaned'] as const) {
      assert.is(S.step(session, { type }).session.state, S.UNDOING, S.STATE_NAMES[session.state]);
    }
  }
});

test('a command that is repeated does nothing more than the first time', () => {
  const to: Readonly<Record<string, readonly Type[]>> = {
    prepare: ['prepare'],
    open: ['prepare', 'admitted', 'open'],
    start: [...TO_LIVE],
    stop: [...TO_LIVE, 'stop'],
    barrier: [...TO_LIVE, 'stop', 'vm-stopped', 'barrier'],
  };
  for (const [command, events] of Object.entries(to)) {
    const once = run(...events);
    const twice = run(...events, command as Type);
    assert.equal(names(twice), names(once), command);
    assert.equal(twice.session, once.session, command);
  }
});

test('a new round can be started again', () => {
  const first: Type[] = ['stop', 'vm-stopped', 'drained', 'barrier', 'vm-resumed', 'sealed'];
  const second = run(...TO_LIVE, ...first, 'commit', ...TO_LIVE);
  assert.is(names(second).filter((name) => name === 'start').length, 2);
});

test.run();
