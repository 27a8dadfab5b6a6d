/**
 * The console of a guest started with `tell=`: lines of ticks, numbered, under a name that is in the
 * guest's memory alone. A guest that reboots has another name, one that loses a moment a gap.
 */
import { readFileSync, statSync, watch } from 'node:fs';

const WAIT_LIMIT_MS = 600_000;

export interface Ticks {
  /** Names in order of appearance: one, if it is one guest that goes on. */
  readonly names: readonly string[];
  readonly numbers: readonly number[];
  /** What its memory's check has said, one line each. */
  readonly checks: readonly string[];
}

/** @param from offset in the log, bytes */
export function readTicks(log: string, from = 0): Ticks {
  const text = readFileSync(log).subarray(from).toString('latin1');
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split(/\r*\n/);
  const ticks = lines.flatMap((line) => {
    const [, name = '', number] = /^tick (\S+) (\d+)$/.exec(line) ?? [];
    return number === undefined ? [] : [{ name, number: Number(number) }];
  });
  return {
    names: [...new Set(ticks.map(({ name }) => name))],
    numbers: ticks.map(({ number }) => number),
    checks: lines.filter((line) => line.startsWith('dirty: ') && !line.includes('ready')),
  };
}

/** Where the log ends now. */
export function logEnd(log: string): number {
  return statSync(log).size;
}

/** The first number that does not follow the one before it; undefined if there is none. */
export function firstGap({ numbers }: Ticks): number | undefined {
  return numbers.find((number, at) => at > 0 && number !== (numbers[at - 1] ?? 0) + 1);
}

/** Waits until what the log says from there on will do. @throws Error after `limitMs` */
export async function untilTicks(
  log: string,
  from: number,
  enough: (ticks: Ticks) => boolean,
  limitMs = WAIT_LIMIT_MS,
): Promise<Ticks> {
  const end = performance.now() + limitMs;
  for (;;) {
    const ticks = readTicks(log, from);
    if (enough(ticks)) return ticks;
    const leftMs = end - performance.now();
    if (leftMs <= 0) throw new Error(`no such ticks in ${log} within ${limitMs} ms`);
    await new Promise<void>((resolve) => {
      const watcher = watch(log, () => done());
      const timer = setTimeout(() => done(), leftMs);
      const done = () => {
        watcher.close();
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
