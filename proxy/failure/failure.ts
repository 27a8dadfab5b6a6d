/**
 * A failure as it travels between our processes and to the operator: plain data, so that it crosses
 * IPC and HTTP unchanged.
 */
import { hintFor } from './hints.ts';

export interface Failure {
  /** Stable; hints.ts, and QMP's, the store's and the stream's error files, list them all. */
  readonly code: string;
  readonly message: string;
  readonly member?: string;
  /** What was being done, such as `open` or `drain`. */
  readonly where?: string;
  readonly hint?: string;
  /** Of memory, for a failure that more of it would have prevented. */
  readonly missingBytes?: number;
}

export class UmbraError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure, cause?: unknown) {
    super(failure.message, cause === undefined ? undefined : { cause });
    this.name = 'UmbraError';
    this.failure = withHint(failure);
  }

  get code(): string {
    return this.failure.code;
  }
}

/** Turns anything thrown into a Failure; a code the error carries is kept. */
export function toFailure(error: unknown, context: Pick<Failure, 'member' | 'where'>): Failure {
  const located = Object.fromEntries(Object.entries(context).filter(([, value]) => value));
  if (error instanceof UmbraError) return { ...located, ...error.failure };
  if (error instanceof Error) {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : 'E_INTERNAL';
    const missing = 'missingBytes' in error && typeof error.missingBytes === 'number';
    const missingBytes = missing ? { missingBytes: Number(error.missingBytes) } : {};
    return withHint({ code, message: error.message, ...missingBytes, ...located });
  }
  return withHint({ code: 'E_INTERNAL', message: String(error), ...located });
}

function withHint(failure: Failure): Failure {
  const hint = failure.hint ?? hintFor(failure.code);
  return hint === undefined ? failure : { ...failure, hint };
}
