/**
 * Tries one input at a time, and reports what no target may do: be slow, take much memory, or leave
 * a rejection or an exception unhandled.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Target } from './target.ts';

/** Limit of processor time; not of wall-clock time, as the machine may be busy otherwise. */
const SLOW_MS = 2_000;
/** Limit of growth in peak memory by one input. */
const MEMORY_MAX = 256 * 2 ** 20;

export class Judge {
  readonly outcomes = new Map<string, number>();
  readonly #target: Target;
  readonly #onInput: ((input: Buffer) => void) | undefined;
  readonly #strays: unknown[] = [];
  readonly #onStray = (error: unknown) => this.#strays.push(error);

  constructor(target: Target, onInput: ((input: Buffer) => void) | undefined) {
    this.#target = target;
    this.#onInput = onInput;
    process.on('unhandledRejection', this.#onStray);
    process.on('uncaughtException', this.#onStray);
  }

  /** Tries an input. @returns an error for a broken promise, undefined if none was */
  async judge(input: Buffer): Promise<Error | undefined> {
    this.#onInput?.(input);
    const cpu = process.cpuUsage();
    const memory = process.resourceUsage().maxRSS;
    try {
      const checked = this.#target.check(input);
      const outcome = typeof checked === 'string' ? checked : await checked;
      if (typeof checked !== 'string') await turn(); // an unhandled rejection is reported by now
      this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    } catch (error) {
      return error instanceof Error ? error : new Error(`thrown: ${String(error)}`);
    }
    const { user, system } = process.cpuUsage(cpu);
    const ms = (user + system) / 1000;
    if (ms > SLOW_MS) return new Error(`took ${Math.round(ms)} ms of processor time`);
    const bytes = (process.resourceUsage().maxRSS - memory) * 1024;
    if (bytes > MEMORY_MAX) return new Error(`took ${Math.round(bytes / 2 ** 20)} MiB of memory`);
    if (this.#strays.length === 0) return undefined;
    const [cause] = this.#strays.splice(0);
    return new Error(`unhandled: ${cause}`, { cause });
  }

  close(): void {
    process.off('unhandledRejection', this.#onStray);
    process.off('uncaughtException', this.#onStray);
  }
}
