/**
 * Findings about multiplexing on uneven clusters, on a fixed sample of seeds; no requirements: if a
 * policy changes and a finding with it, the new finding is to be written down here.
 * `npm run compare` simulates 1,000 seeds.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { unevenCluster } from '../../../tools/sim/clusters.ts';
import {
  CONDITIONS,
  compareRuns,
  endings,
  MULTIPLEXINGS,
  measure,
  type Ratio,
  type Run,
} from '../../../tools/sim/comparison.ts';

const SEEDS = 60;

function runs(
  condition: keyof typeof CONDITIONS,
  policy: keyof typeof MULTIPLEXINGS,
  memoryBound = 2,
): Run[] {
  return Array.from({ length: SEEDS }, (_, index) => {
    const seed = index + 1;
    const endWhen = [CONDITIONS[condition]];
    const cluster = unevenCluster(seed);
    return measure(cluster, seed, endWhen, MULTIPLEXINGS[policy], { memoryBound });
  });
}

function text({ median, better, worse }: Ratio): string {
  return `median ${median}, better ${better}, worse ${worse}`;
}

const test = suite('multiplexing compared');

const together = runs('all-first-pass', 'finish-together');
const parallel = runs('all-first-pass', 'parallel');

test(`over ${SEEDS} clusters, finish-together sends less than parallel in nearly all`, () => {
  const bytes = compareRuns(together, parallel, 'bytes');
  assert.ok(bytes.median < 0.97 && bytes.better > 0.85, text(bytes));
});

test('its round is over sooner', () => {
  const latency = compareRuns(together, parallel, 'latencyMs');
  assert.ok(latency.median < 0.97 && latency.better > 0.85, text(latency));
});

test('and the cluster is stopped for a fraction of the time, in most of them', () => {
  const downtime = compareRuns(together, parallel, 'downtimeMs');
  assert.ok(downtime.median < 0.5 && downtime.better > 0.8, text(downtime));
});

test('a member at its bound does not end the phase for those that have not sent all', () => {
  assert.is(endings(parallel).get('memory-bound'), undefined);
  assert.is(endings(together).get('memory-bound'), undefined);
});

test('it wins where downtime is waited for, too', () => {
  const own = runs('no-progress', 'finish-together');
  const others = runs('no-progress', 'parallel');
  const bytes = compareRuns(own, others, 'bytes');
  assert.ok(bytes.median < 1 && bytes.better > 0.7, text(bytes));
  const downtime = compareRuns(own, others, 'downtimeMs');
  assert.ok(downtime.median < 1 && downtime.better > 0.6, text(downtime));
});

test('round-robin saves as many bytes as finish-together, but has more downtime', () => {
  const own = runs('all-first-pass', 'round-robin');
  const bytes = compareRuns(own, parallel, 'bytes');
  assert.ok(bytes.median < 0.97, text(bytes));
  const downtime = compareRuns(own, together, 'downtimeMs');
  assert.ok(downtime.median > 1.5, text(downtime));
});

test.run();
