/**
 * Code coverage by V8's block coverage (inspector, `Profiler.takePreciseCoverage`): a map of each
 * script's characters. Counting makes the code about half as fast, a query takes 1 to 3 ms.
 *
 * Start it before the code is loaded: V8 counts blocks only in code that it compiles afterwards.
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
  /** Map of each script: 1 for every character that was run. */
  readonly #covered = new Map<string, Uint8Array>();

  constructor() {
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Limits coverage to some files. @param prefixes paths or their beginnings, from the root */
  watch(prefixes: readonly string[]): void {
    this.#wanted = prefixes.map((prefix) => new URL(prefix, root).href);
  }

  /** Returns whether code has run since the last query that is not yet claimed. It stays new. */
  looksNew(): boolean {
    return this.#take(false);
  }

  /** Returns the same as `looksNew`, and claims the code: it is not new any more. */
  claim(): boolean {
    return this.#take(true);
  }

  /** Returns the share of the loaded files' code that has been run. */
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
    // Outer ranges come first, and inner ones overwrite them.
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

  /** Sends a command; the session is in this thread and answers before `post` returns. */
  #post(method: string, params?: object): unknown {
    let outcome: unknown;
    this.#session.post(method, params, (error, result) => {
      if (error !== null) throw error;
      outcome = result;
    });
    return outcome;
  }
}
