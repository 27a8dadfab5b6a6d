/** The persister's machine, told as a story: what it asks for, and what it is answered. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { step } from '../../../../proxy/coordinator/durable/persisting.ts';
import {
  GRACE_MS,
  IDLE,
  lingersSinceMs,
  newPersisting,
  type Persisting,
  type PersistingAction,
  type PersistingEvent,
  RETRY_MS,
  STOPPED,
  WAITING,
} from '../../../../proxy/coordinator/durable/persisting-state.ts';
import type { DurableList } from '../../../../proxy/protocol/agent.ts';
import type { EpochManifest } from '../../../../shadow/index.ts';

const SLOW = { code: 'E_PERSIST_SLOW', message: 'too slow' };
const LOST = { code: 'E_DURABLE_LOST', message: 'the process ended' };
const ENDED = { code: 'E_PERSIST_ENDED', message: 'ended' };
const FULL = { code: 'E_DURABLE_NO_ROOM', message: 'full' };

const test = suite('persisting');
let machine: Persisting;
/** Actions of the last step, in short words. */
let asked: string[] = [];

test.before.each(() => {
  machine = newPersisting(2);
  asked = [];
});

function epoch(number: number): EpochManifest {
  return {
    format: 'umbra-epoch',
    version: 2,
    cluster: 'demo',
    epoch: number,
    round: `r${number}`,
    createdAt: `t${number}`,
    members: [],
  };
}

function list(...numbers: number[]): DurableList {
  const epochs = numbers.map(epoch);
  return { epochs, damaged: [], pinned: [], nextEpoch: 1, doubt: undefined };
}

function words(action: PersistingAction): string {
  if (action.type === 'ask') return action.request.type;
  if (action.type === 'persist') return `persist ${action.epoch.epoch}`;
  if (action.type === 'settle') return `settle ${action.turn} ${action.failure?.code ?? 'ok'}`;
  if (action.type === 'arm-retry') return `arm-retry ${action.ms}`;
  if (action.type === 'note') return `note ${action.note.what}`;
  return action.type;
}

/** Gives events to the machine. @returns what it asked for after the last */
function tell(...events: PersistingEvent[]): string[] {
  for (const event of events) {
    const { persisting, actions } = step(machine, event);
    machine = persisting;
    asked = actions.map(words);
  }
  return asked;
}

const listed = (...numbers: number[]) => ({ type: 'listed', list: list(...numbers) }) as const;
const failed = (failure: typeof LOST) => ({ type: 'failed', failure }) as const;
const WAKE = { type: 'wake' } as const;
const PERSISTED = { type: 'persisted' } as const;

function memory(...numbers: number[]): PersistingEvent {
  return { type: 'memory', memory: { epochs: numbers.map(epoch), pinned: [] } };
}

function turn(id: number, want: 'look' | number): PersistingEvent {
  const wanted =
    want === 'look' ? ({ kind: want } as const) : ({ kind: 'commit', epoch: epoch(want) } as const);
  const limits = { limitMs: 50, slow: SLOW, askedAtMs: 7 };
  return { type: 'turn', turn: { id, want: wanted, ...limits } };
}

test('an epoch only in memory is persisted, checked, listed and confirmed', () => {
  assert.equal(tell(WAKE), ['look']);
  assert.equal(tell(listed()), ['read-memory']);
  assert.equal(tell(memory(1)), ['persist 1']);
  assert.equal(tell(PERSISTED), ['read-memory']);
  assert.equal(tell(memory(1)), ['publish']);
  assert.equal(machine.list.epochs, [], 'it is offered when it is confirmed');
  assert.equal(tell(listed(1)), ['read-memory']);
  assert.equal(tell(memory(1)), ['note persisted', 'collect']);
  assert.equal(machine.list.epochs, [epoch(1)]);
  tell(listed(1));
  assert.is(machine.state, IDLE);
});

test('a failed persist is retried after a doubling pause, and at once when woken', () => {
  assert.equal(tell(WAKE, failed(LOST)), ['note failed', `arm-retry ${RETRY_MS}`]);
  assert.is(machine.state, WAITING);
  assert.equal(tell({ type: 'retry' }, failed(LOST)), ['note failed', `arm-retry ${2 * RETRY_MS}`]);
  assert.equal(tell(WAKE), ['disarm-retry', 'look']);
});

test('a full disk is cleared of the attempt before it is tried again', () => {
  tell(WAKE, listed(), memory(1));
  assert.equal(tell(failed(FULL)), ['collect']);
  assert.equal(tell(listed()), ['note failed', `arm-retry ${RETRY_MS}`]);
  assert.is(machine.failure?.code, FULL.code);
});

test('a turn interrupts background work, is served, and background work restarts', () => {
  tell(WAKE, listed(), memory(1));
  assert.equal(tell(turn(1, 2)), ['arm-limit', 'end-persist']);
  assert.equal(tell(failed(ENDED)), ['look']);
  assert.equal(tell(listed()), ['persist 2']);
  assert.equal(tell(PERSISTED), ['publish']);
  assert.equal(tell(listed(2)), ['note persisted', 'settle 1 ok', 'look']);
});

test('a late turn ends its work, stays on after its grace period, and is undone', () => {
  tell(turn(1, 1), listed(), PERSISTED);
  assert.equal(tell({ type: 'late', turn: 1 }), ['end-persist', 'arm-grace']);
  assert.is(lingersSinceMs(machine), undefined);
  assert.equal(tell({ type: 'abandon', turn: 1 }), ['settle 1 E_PERSIST_SLOW']);
  assert.is(lingersSinceMs(machine), 7);
  assert.equal(tell(listed(1)), ['retire'], 'its round was aborted');
  assert.equal(tell(listed()), ['look'], 'and the background begins');
  assert.is(lingersSinceMs(machine), undefined);
});

test('an epoch listed without an answer does not outlive its aborted round', () => {
  tell(turn(1, 1), listed(), PERSISTED);
  assert.equal(tell(failed(LOST)), ['settle 1 E_DURABLE_LOST', 'look']);
  tell(listed(1));
  assert.equal(tell(memory()), ['retire']);
});

test('a turn whose time was over before it was served has begun nothing', () => {
  tell(turn(1, 1));
  assert.equal(tell(turn(2, 2), { type: 'late', turn: 2 }), ['arm-grace']);
  assert.equal(tell(failed(LOST)), ['settle 1 E_DURABLE_LOST', 'settle 2 E_PERSIST_SLOW', 'look']);
});

test('an epoch is given up if it cannot be read, not if it has been folded meanwhile', () => {
  const corrupt = { code: 'E_EPOCH_CORRUPT', message: 'no such file' };
  tell(WAKE, listed(), memory(1), failed(corrupt));
  const folded = { ...epoch(1), round: 'r9' };
  assert.equal(tell({ type: 'memory', memory: { epochs: [folded], pinned: [] } }), ['persist 1']);
  assert.is(machine.hopeless.size, 0);
  tell(failed(corrupt));
  assert.equal(tell({ type: 'memory', memory: { epochs: [folded], pinned: [] } }), [
    'note hopeless',
    'collect',
  ]);
});

test('it stops when pending work is answered, and refuses turns from then on', () => {
  tell(WAKE, listed(), memory(1));
  tell(turn(1, 2));
  assert.equal(tell({ type: 'stop' }), ['disarm-retry', 'end-persist', 'arm-grace']);
  assert.equal(tell(failed(ENDED)), ['settle 1 E_DAEMON_ENDING']);
  assert.is(machine.state, STOPPED);
  assert.equal(tell(turn(2, 'look')), ['settle 2 E_DAEMON_ENDING']);
  assert.equal(tell(WAKE), []);
});

test('a late look is not waited for, as it cannot be ended', () => {
  tell(turn(1, 'look'));
  const { actions } = step(machine, { type: 'late', turn: 1 });
  assert.equal(actions.at(-1), { type: 'arm-grace', turn: 1, ms: 0 });
  assert.ok(GRACE_MS > 0);
});

test.run();
