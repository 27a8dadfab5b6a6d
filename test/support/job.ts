/** Workloads in the guests that the end-to-end tests watch: a ticker and an MPI job. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Testbed } from '../../tools/testbed/testbed.ts';

const POLL_MS = 250;
/** Limits for a machine many times slower than any seen: they only end what would never end. */
const PROGRESS_LIMIT_MS = 15 * 60_000;
const JOB_LIMIT_MS = 20 * 60_000;

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

/**
 * Starts an MPI job over all guests that lasts until `endJob`: systems of linear equations, each
 * checked when it is solved. On a machine of any speed it runs when a test gets to its next step.
 * @param round systems that are solved before the job looks whether it is to end, and their order
 */
export async function startJob(
  bed: Guests,
  round: { readonly cases: number; readonly order: number },
): Promise<void> {
  await bed.shell(0, `/job/xdlu ${round.cases} ${round.order} again`);
}

/** Returns how many systems of equations the job has solved so far, in all of its rounds. */
export async function casesPassed(bed: Guests): Promise<number> {
  return Number(await bed.shell(0, "grep -c '^WALL .* PASSED' /job/out || true"));
}

/**
 * Waits until the job has solved so many systems in all.
 * @throws Error when it has ended before, or has not come that far in `PROGRESS_LIMIT_MS`
 */
export async function jobRuns(bed: Guests, cases: number): Promise<void> {
  for (const end = performance.now() + PROGRESS_LIMIT_MS; ; ) {
    if ((await casesPassed(bed)) >= cases) return;
    if (!(await isJobRunning(bed)) || performance.now() > end) break;
    await delay(POLL_MS);
  }
  throw new Error(
    `the job did not reach ${cases} cases: ${await bed.shell(0, 'tail -5 /job/out')}`,
  );
}

/** Returns whether a job was started and has not ended, by itself or because it failed. */
export async function isJobRunning(bed: Guests): Promise<boolean> {
  const { exitCode } = await (await bed.guest(0)).run('[ -e /job/spec ] && [ ! -e /job/rc ]');
  return exitCode === 0;
}

/**
 * Lets the job end with the round that is under way, and waits for that.
 * @returns what its own verification of all rounds says; code 0 is passed
 */
export async function endJob(
  bed: Guests,
): Promise<{ readonly code: number; readonly output: string }> {
  if (!(await isJobRunning(bed))) {
    throw new Error(`the job ended before it was to: ${await bed.shell(0, 'tail -5 /job/out')}`);
  }
  await bed.shell(0, '/job/end');
  for (const end = performance.now() + JOB_LIMIT_MS; ; ) {
    const { exitCode, output } = await (await bed.guest(0)).run('/job/verify');
    if (exitCode !== 2 || performance.now() > end) return { code: exitCode, output };
    await delay(POLL_MS);
  }
}
