/** What is fuzzed: bytes in, and a judgement of what the code made of them. */
import { strict as assert } from 'node:assert';

export interface Target {
  /** Source files (path prefixes, from the root) whose coverage guides the search. */
  readonly covers: readonly string[];
  readonly inputBytesMax: number;
  /** What is put into inputs, besides what they hold already. */
  readonly words?: readonly (string | Buffer)[];
  /** A change that knows the format; every other input gets one, unless it is returned as it came. */
  readonly mutate?: (input: Buffer, random: () => number) => Buffer;
  /** Makes checksums right again, so that what is behind them is reached; two inputs of three. */
  readonly mend?: (input: Buffer) => Buffer;
  /**
   * Judges one input; leaves nothing behind.
   * @returns what became of it, in a word or two: a code, or `accepted`
   * @throws anything at all, if a promise of the target was broken
   */
  readonly check: (input: Buffer) => string | Promise<string>;
}

/** The only errors that may be thrown: those with a code that is documented. @returns the code */
export function codeOf(error: unknown, kind: abstract new (...a: never[]) => Error): string {
  if (!(error instanceof kind)) throw error;
  const { code } = error as Error & { code?: unknown };
  assert.ok(typeof code === 'string' && /^[A-Z][A-Z0-9_]+$/.test(code), `its code is ${code}`);
  assert.ok(error.message.length > 0 && error.message.length < 100_000, 'a message to be read');
  return code;
}
