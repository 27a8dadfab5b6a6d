/**
 * Fuzzes one target: every seed first, then changed inputs, until the time is over or a promise is
 * broken.
 *
 *     pool ──pick, change, mend──▶ batch ──check each──▶ any new coverage? ──no──▶ a larger batch
 *       ▲                                                     │ yes
 *       └──────── inputs with new coverage of their own ◀──each again, alone; a smaller batch
 *
 * Asking for coverage costs more than most inputs, hence batches. All randomness comes from the
 * seed, and the clock decides only when the campaign ends: the same seed tries the same inputs, as
 * many as there is time for.
 */
import { prng } from '../proxy/stream/cuts.ts';
import type { Coverage } from './coverage.ts';
import { Judge } from './judge.ts';
import { mutateBytes } from './mutate-bytes.ts';
import type { Target } from './target.ts';

const BATCH_MAX = 64;
const POOL_MAX = 5_000;

export interface CampaignOptions {
  readonly seed: number;
  /** Returns whether to continue; called before each batch. */
  readonly goesOn: (runs: number) => boolean;
  /** Coverage that guides the search; without it no input joins the pool. */
  readonly coverage?: Coverage | undefined;
  /** Called with each input before it is tried, so that one that kills the process is known. */
  readonly onInput?: ((input: Buffer) => void) | undefined;
}

export interface Finding {
  readonly input: Buffer;
  readonly error: Error;
}

export interface Campaign {
  readonly runs: number;
  /** Number of inputs by outcome. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** Number of inputs in the pool at the end, seeds included. */
  readonly pool: number;
  readonly finding: Finding | undefined;
}

export async function fuzz(
  target: Target,
  seeds: readonly Buffer[],
  { seed, goesOn, coverage, onInput }: CampaignOptions,
): Promise<Campaign> {
  const judge = new Judge(target, onInput);
  const pool = [...seeds];
  let runs = 0;
  const end = (finding?: Finding) => {
    judge.close();
    return { runs, outcomes: judge.outcomes, pool: pool.length, finding };
  };
  const tryOne = async (input: Buffer): Promise<Finding | undefined> => {
    runs++;
    const error = await judge.judge(input);
    return error && { input, error };
  };
  for (const input of seeds) {
    const finding = await tryOne(input);
    if (finding !== undefined) return end(finding);
  }
  coverage?.claim();
  let made = 0;
  for (let size = 1; goesOn(runs); ) {
    const batch = Array.from({ length: size }, () => make(target, pool, prng(hash(seed, made++))));
    for (const input of batch) {
      const finding = await tryOne(input);
      if (finding !== undefined) return end(finding);
    }
    if (coverage?.looksNew() !== true) {
      size = Math.min(BATCH_MAX, size * 2);
      continue;
    }
    for (const input of batch) {
      const finding = await tryOne(input);
      if (finding !== undefined) return end(finding);
      if (coverage.claim() && pool.length < POOL_MAX) pool.push(input);
    }
    size = Math.max(1, size / 4);
  }
  return end();
}

function make(target: Target, pool: readonly Buffer[], random: () => number): Buffer {
  const pick = (): Buffer => {
    // Inputs found last lead to new ones more often.
    const at = random() < 0.3 ? 1 - random() ** 2 : random();
    return pool[Math.min(pool.length - 1, Math.floor(at * pool.length))] ?? Buffer.alloc(0);
  };
  const { words = [], mutate, mend, inputBytesMax } = target;
  const parent = pick();
  const known = mutate !== undefined && random() < 0.5 ? mutate(parent, random) : parent;
  const changed = known === parent ? mutateBytes(parent, pick(), words, random) : known;
  const cut = changed.subarray(0, inputBytesMax);
  return mend !== undefined && random() < 0.67 ? mend(cut) : cut;
}

/** Derives a seed for each input. */
function hash(seed: number, index: number): number {
  let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}
