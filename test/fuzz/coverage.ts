/**
 * Which code has been run, by V8's own block coverage (inspector, `Profiler.takePreciseCoverage`): a map
 * of each script's characters. Counting makes the code about half as fast, asking costs 1 to 3 ms.
 *
 * Start it before the code is loaded: V8 counts blocks only in what it compiles afterwards.
 */
import { Session } from 'node:inspector';

interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly {
    readonly ranges: readonly {
      readonly startOffset: number;
      readonly endOffset: number;
      readonly count: number;
    }[];
  }[];
}

const root = new URL('../../', import.meta.url);

export class Coverage {
  readonly #session = new Session();
  #wanted: readonly string[] = [];
  /** 1 for every character that was run, by script. */
  readonly #covered = new Map<string, Uint8Array>();

  constructor() {
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** From now on, only of these. @param prefixes of source files, from the project's root */
  watch(prefixes: readonly string[]): void {
    this.#wanted = prefixes.map((prefix) => new URL(prefix, root).href);
  }

  /** Was anything run since the last call (of this or `claim`) that never was before? It stays new. */
  looksNew(): boolean {
    return this.#take(false);
  }

  /** The same, and from now on it is known. */
  claim(): boolean {
    return this.#take(true);
  }

  /** Share of the code that has been run, of files that were loaded. */
  get share(): number {
    let run = 0;
    let all = 0;
    for (const map of this.#covered.values()) {
      for (const one of map) run += one;
      all += map.length;
    }
    return all === 0 ? 0 : run / all;
  }

  close(): void {
    this.#session.disconnect();
  }

  #take(keep: boolean): boolean {
    const { result } = this.#post('Profiler.takePreciseCoverage') as { result: ScriptCoverage[] };
    let isNew = false;
    for (const script of result) {
      if (this.#wanted.some((prefix) => script.url.startsWith(prefix))) {
        isNew = this.#compare(script, keep) || isNew;
      }
    }
    return isNew;
  }

  #compare({ url, functions }: ScriptCoverage, keep: boolean): boolean {
    const end = Math.max(0, ...functions.map(({ ranges }) => ranges[0]?.endOffset ?? 0));
    const known = this.#covered.get(url) ?? new Uint8Array(0);
    const map = known.length >= end ? known : new Uint8Array(end);
    if (map !== known) map.set(known);
    this.#covered.set(url, map);
    // Outer ranges come first: what is inside of them has the last word.
    const now = new Uint8Array(end);
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count } of ranges) {
        now.fill(count > 0 ? 1 : 0, startOffset, endOffset);
      }
    }
    let isNew = false;
    for (let at = 0; at < end; at++) {
      if (now[at] === 0 || map[at] === 1) continue;
      if (keep) map[at] = 1;
      isNew = true;
    }
    return isNew;
  }

  /** The session is of this thread: it answers before `post` returns. */
  #post(method: string, params?: object): unknown {
    let outcome: unknown;
    this.#session.post(method, params, (error, result) => {
      if (error !== null) throw error;
      outcome = result;
    });
    return outcome;
  }
}
