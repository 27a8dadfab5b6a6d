/**
 * Reads the console of a guest started with `tell=`, which prints numbered ticks under a random
 * name. The name exists only in the guest's memory: a guest that has rebooted has another one. Lost
 * time shows as a gap in the numbers.
 */
import { readFileSync, statSync, watch } from 'node:fs';

const WAIT_LIMIT_MS = 600_000;

export interface Ticks {
  /** Names in order of appearance; one name means that one guest ran without a reboot. */
  readonly names: readonly string[];
  readonly numbers: readonly number[];
  /** Lines of the guest's memory check (dirty.c). */
  readonly checks: readonly string[];
}

/** Returns the ticks of a log. @param from offset in the log, bytes */
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

/** Returns the log's present size, bytes. */
export function logEnd(log: string): number {
  return statSync(log).size;
}

/** Returns the first number that does not follow the one before it; undefined if none. */
export function firstGap({ numbers }: Ticks): number | undefined {
  return numbers.find((number, at) => at > 0 && number !== (numbers[at - 1] ?? 0) + 1);
}

/** Waits until the ticks of a log are `enough`. @throws Error after `limitMs` */
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
