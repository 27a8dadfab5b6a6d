/** A target of the fuzzer: bytes in, and a judgement of what the code made of them. */
import { strict as assert } from 'node:assert';

export interface Target {
  /** Source files (path prefixes, from the root) whose coverage guides the search. */
  readonly covers: readonly string[];
  readonly inputBytesMax: number;
  /** Texts and bytes to insert into inputs. */
  readonly words?: readonly (string | Buffer)[];
  /** Changes an input by its format; used for every other one, unless it returns it unchanged. */
  readonly mutate?: (input: Buffer, random: () => number) => Buffer;
  /** Corrects checksums, so that the code behind them is reached; used for two inputs of three. */
  readonly mend?: (input: Buffer) => Buffer;
  /**
   * Judges one input; leaves nothing behind.
   * @returns the outcome in a word or two: a code, or `accepted`
   * @throws any error, if a promise of the target was broken
   */
  readonly check: (input: Buffer) => string | Promise<string>;
}

/** Checks that an error is of the kind that may be thrown, and has a code. @returns the code */
export function codeOf(error: unknown, kind: abstract new (...a: never[]) => Error): string {
  if (!(error instanceof kind)) throw error;
  const { code } = error as Error & { code?: unknown };
  assert.ok(typeof code === 'string' && /^[A-Z][A-Z0-9_]+$/.test(code), `its code is ${code}`);
  assert.ok(
    error.message.length > 0 && error.message.length < 100_000,
    'the message is not readable',
  );
  return code;
}
