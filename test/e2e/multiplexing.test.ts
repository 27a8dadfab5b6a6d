/**
 * Real streams take turns as configured, waiting members run on, and the report gives the cost as
 * data and as a picture.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { RoundReport, Span } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { endMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

/** End of the live phase, in which all stream under any policy (policies/live-phase.ts). */
const CLOSING_MS = 1_000;
/** Length of a slot. Its change, a message to each proxy, takes a small part of this. */
const SLOT = '1500ms';
const CHANGING_SHARE = 0.15;
/**
 * Greatest rate of QEMU, bytes a second. Slots are for first passes, which on a fast machine end
 * before there is anything to observe. At this rate they take seconds on any machine.
 */
const SLOW_BYTES = 24 * 2 ** 20;
const FULL_SPEED_BYTES = 2 ** 40;

const test = suite('multiplexing');
let bed: Testbed;

test.before(async () => {
  const memoryMiB = [256, 384, 192];
  bed = await Testbed.create({ nodes: 3, memoryMiB, qemu: await newestQemu(), watch: true });
  await bed.up();
  // Enough data that slots matter.
  await bed.dirty(1, { sizeMiB: 192, rateMiB: 1 });
});
test.after(() => bed.dispose());

async function checkpoint(round: object): Promise<RoundReport> {
  await bed.reconfigure({ round });
  return bed.json<RoundReport>('checkpoint');
}

/** Takes a checkpoint in which every VM sends slowly from its migration's start to its stop. */
async function slowCheckpoint(round: object): Promise<RoundReport> {
  const paths = [0, 1, 2].map((node) => join(bed.memberDirectory(node), 'watch.sock'));
  const monitors = await Promise.all(paths.map((path) => QmpClient.connect(path)));
  const slowed: Promise<unknown>[] = [];
  for (const monitor of monitors) {
    monitor.onEvent(({ name, data }) => {
      const begins = name === 'MIGRATION' && data.status === 'setup';
      if (begins) slowed.push(pace(monitor, SLOW_BYTES));
      if (name === 'STOP') void pace(monitor, FULL_SPEED_BYTES).catch(() => {}); // closed by then
    });
  }
  try {
    const report = await checkpoint({ maxLive: '10min', stopDeadline: '60s', ...round });
    assert.is((await Promise.all(slowed)).length, monitors.length);
    return report;
  } finally {
    for (const monitor of monitors) monitor.close();
  }
}

function pace(monitor: QmpClient, bytesPerSecond: number): Promise<unknown> {
  return monitor.execute('migrate-set-parameters', { 'max-bandwidth': bytesPerSecond });
}

/** Returns the share of the live phase in which more than `most` members streamed. */
function crowdedShare({ members }: RoundReport, most: number): number {
  const spans = members.flatMap(({ timeline }) => timeline);
  const running = spans.filter(({ state }) => state === 'live' || state === 'held');
  const from = Math.min(...running.map(({ fromMs }) => fromMs));
  const to = Math.max(...running.map(({ toMs }) => toMs)) - CLOSING_MS;
  const flows = ({ state, fromMs, toMs }: Span, at: number) =>
    state === 'live' && fromMs <= at && at < toMs;
  let crowded = 0;
  let all = 0;
  for (let at = from; at < to; at++) {
    all++;
    if (spans.filter((span) => flows(span, at)).length > most) crowded++;
  }
  return crowded / all;
}

test('parallel: no member waits for a slot', async () => {
  const report = await slowCheckpoint({ multiplexing: 'parallel', dirtyShare: 1 });
  assert.is(report.outcome, 'committed');
  assert.ok(crowdedShare(report, 2) > 0.1, 'all three never streamed at once');
});

test('round-robin: one streams at a time, the others run on, held', async () => {
  const report = await slowCheckpoint({ multiplexing: 'round-robin', slots: 1, slot: SLOT });
  assert.is(report.outcome, 'committed');
  const share = crowdedShare(report, 1);
  assert.ok(share < CHANGING_SHARE, `${share} of the time more than one streamed`);
  for (const { member, heldMs = 0, downtimeMs = Number.NaN, liveMs = 0 } of report.members) {
    assert.ok(heldMs > 0.2 * liveMs, `${member} was held for ${heldMs} of ${liveMs} ms`);
    assert.ok(downtimeMs < liveMs, `${member} stood while it was to run`);
  }
});

test('finish-together: the largest streams first, and the smallest waits for it', async () => {
  const report = await slowCheckpoint({ multiplexing: 'finish-together', slots: 1 });
  assert.is(report.outcome, 'committed');
  const held = (name: string) => report.members.find(({ member }) => member === name)?.heldMs ?? 0;
  assert.ok(held('n1') < held('n2'), `n1 held ${held('n1')} ms, n2 ${held('n2')} ms`);
});

test('no-progress: the live phase of busy VMs ends when waiting gains nothing', async () => {
  await bed.dirty(0, { sizeMiB: 64, pattern: 'random' });
  const report = await checkpoint({
    endWhen: ['no-progress'],
    memoryBound: 20,
    maxLive: '30min',
  });
  assert.match(report.endReason ?? '', /^no-progress: n\d dirties memory as fast as it is sent/);
  assert.match(await bed.shell(0, endMemory()), /verified/);
});

test('the report gives the prediction, the result and the cost', async () => {
  const report = await bed.json<RoundReport>('report');
  assert.ok((report.predictedDowntimeMs ?? 0) > 0);
  assert.ok((report.predictionError ?? -1) >= 0);
  assert.is(report.liveBytes + report.drainBytes, report.streamBytes);
  assert.ok(report.repeatedPages > 0);
  for (const { member, timeline, passes = 0 } of report.members) {
    assert.ok(passes >= 2, member);
    for (const [index, { fromMs, toMs }] of timeline.entries()) {
      assert.ok(toMs >= fromMs, `${member}: a span ends before it begins`);
      const before = timeline[index - 1];
      if (before !== undefined) assert.ok(fromMs >= before.toMs - 5, `${member}: spans overlap`);
    }
  }
});

test('the report as a picture: one lane for each member, one colour for each state', async () => {
  const file = join(bed.home, 'round.svg');
  const { code, stdout } = await bed.umbra('report', '--svg', file);
  assert.is(code, 0);
  for (const word of ['PREDICTED', 'HELD', 'PASSES', 'RESENT']) assert.match(stdout, word);
  const svg = readFileSync(file, 'utf8');
  for (const name of ['n0', 'n1', 'n2']) assert.match(svg, `>${name} `);
  for (const state of ['live', 'stopped']) assert.match(svg, `<title>${state} `);
});

test('reports of past rounds are kept, and an unknown round is an error', async () => {
  const { rounds } = await bed.json<{ rounds: string[] }>('report', '--list');
  assert.is(rounds.length, 4);
  const first = await bed.json<RoundReport>('report', rounds[0] ?? '');
  assert.is(first.epoch, 1);
  const { code, stderr } = await bed.umbra('report', 'r000099-00000000');
  assert.is(code, 1);
  assert.match(stderr, 'E_ROUND_UNKNOWN');
});

test.run();
