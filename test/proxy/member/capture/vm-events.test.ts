/** Finds out by whose doing a VM has stopped: the monitor answers when the test says so. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import { LIVE } from '../../../../proxy/member/capture/session.ts';
import type { MemberRound } from '../../../../proxy/member/capture/stages.ts';
import { VmEvents } from '../../../../proxy/member/capture/vm-events.ts';
import { Journal } from '../../../../proxy/member/repair/journal.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const test = suite('events of a VM');
let events: VmEvents;
let round: { stopAsked: boolean; noteStop?: (stopping: boolean) => void };
let answer: (status: string) => void;
/** Events and failures that the round was given, in order. */
let told: string[] = [];

test.before.each(() => {
  told = [];
  const answered = new Promise<{ status: string }>((resolve) => {
    answer = (status) => resolve({ status });
  });
  round = Object.assign(
    { stopAsked: false, state: LIVE, addFacts: () => {} },
    {
      method: { drain: () => ({}), onStopped: () => told.push('ours'), onResumed: () => true },
      handle: ({ type }: { type: string }) => told.push(type),
      failed: (_: string, error: unknown) => told.push(toFailure(error, {}).code),
    },
  );
  const monitor = { execute: () => answered };
  events = new VmEvents(round as unknown as MemberRound, monitor as never);
});

function stop(): void {
  events.take({ name: 'STOP', timestampUs: 0, data: {} });
}

test('a stop that the round has requested is the round’s', async () => {
  round.stopAsked = true;
  stop();
  await events.stopKnown();
  assert.equal(told, ['ours']);
});

test('an operator’s stop is not the round’s, whatever the round has requested', async () => {
  stop();
  round.stopAsked = true;
  answer('paused');
  await events.stopKnown();
  assert.equal(told, ['E_VM_PAUSED']);
});

test('a stop that QEMU makes to switch over is part of the round', async () => {
  stop();
  answer('finish-migrate');
  await events.stopKnown();
  assert.equal(told, ['vm-stopped']);
});

test('the round’s stop waits until the origin of the last one is known', async () => {
  stop();
  const order: string[] = [];
  const known = events.stopKnown().then(() => order.push('known'));
  await new Promise(setImmediate);
  order.push('answered');
  answer('paused');
  await known;
  assert.equal(order, ['answered', 'known']);
});

test('a journal that cannot be written fails the round, not the monitor', () => {
  const folder = mkdtempSync(join(scratchFolder(), 'umbra-events-'));
  try {
    const journal = new Journal(folder);
    journal.write({ round: 'r', stopping: true, saved: { capabilities: [], parameters: {} } });
    symlinkSync('/dev/full', join(folder, 'round.json.tmp')); // as on a full tmpfs
    round.noteStop = (stopping) => journal.note(stopping);
    events.take({ name: 'RESUME', timestampUs: 0, data: {} });
    assert.equal(told, ['E_STORE_NO_ROOM']);
    assert.ok(journal.read()?.stopping, 'what was noted before is lost');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
