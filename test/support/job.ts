/** What the end-to-end tests watch in the guests. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Testbed } from '../../tools/testbed/testbed.ts';

const POLL_MS = 250;

/** The guests of a cluster: a testbed's own, or a clone's. */
export type Guests = Pick<Testbed, 'nodes' | 'guest' | 'shell'>;

export interface Ticker {
  readonly nonce: string;
  readonly ticks: number;
  /** The guest's CLOCK_MONOTONIC at its last tick, milliseconds. */
  readonly monotonicMs: number;
  readonly monotonicGapMaxUs: number;
  readonly stepsBack: number;
}

/** Reads a guest's ticker; `reset` starts its maxima anew. */
export async function ticker(bed: Guests, node: number, command = 'show'): Promise<Ticker> {
  const line = await bed.shell(node, `ticker ${command}`);
  const values = new Map(
    line
      .trim()
      .split(/\s+/)
      .map((pair) => pair.split('=') as [string, string]),
  );
  const number = (key: string) => {
    const value = values.get(key);
    if (value === undefined) throw new Error(`the ticker says no ${key}: ${line}`);
    return Number(value);
  };
  return {
    nonce: values.get('nonce') ?? '',
    ticks: number('ticks'),
    monotonicMs: number('monotonic_us') / 1000,
    monotonicGapMaxUs: number('monotonic_gap_max_us'),
    stepsBack: number('monotonic_steps_back'),
  };
}

export function tickers(bed: Guests, command?: string): Promise<Ticker[]> {
  return Promise.all(Array.from({ length: bed.nodes }, (_, node) => ticker(bed, node, command)));
}

/** How many cases an xdlu job has passed so far. */
export async function casesPassed(bed: Guests): Promise<number> {
  return Number(await bed.shell(0, "grep -c '^WALL .* PASSED' /job/out || true"));
}

/** Waits until the job is well under way. */
export async function jobRuns(bed: Guests, cases: number, limitMs = 180_000): Promise<void> {
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    if ((await casesPassed(bed)) >= cases) return;
    await delay(POLL_MS);
  }
  throw new Error(
    `the job did not reach ${cases} cases: ${await bed.shell(0, 'tail -5 /job/out')}`,
  );
}

/** Waits for the job's end. @returns what its own verification says */
export async function jobVerdict(
  bed: Guests,
  limitMs: number,
): Promise<{ readonly code: number; readonly output: string }> {
  for (const end = performance.now() + limitMs; ; ) {
    const { exitCode, output } = await (await bed.guest(0)).run('/job/verify');
    if (exitCode !== 2 || performance.now() > end) return { code: exitCode, output };
    await delay(POLL_MS);
  }
}
