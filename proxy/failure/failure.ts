/**
 * A failure as it travels between processes and to the operator: plain data, so that it crosses IPC
 * and HTTP unchanged. PURE.
 */
import { entryOf, type FailureCode } from './catalogue.ts';

export interface Failure {
  /** Stable; CODES.md lists them all. What the system raised keeps its own, such as `ENOENT`. */
  readonly code: string;
  readonly message: string;
  readonly member?: string;
  /** The step in which it happened, such as `open` or `drain`. */
  readonly where?: string;
  readonly hint?: string;
  /** Memory that would have prevented the failure, bytes. */
  readonly missingBytes?: number;
}

/** A failure that is raised here: its code is one of the catalogue's. */
export interface RaisedFailure extends Failure {
  readonly code: FailureCode;
}

export class UmbraError extends Error {
  readonly failure: Failure;

  constructor(failure: RaisedFailure, cause?: unknown) {
    super(failure.message, cause === undefined ? undefined : { cause });
    this.name = 'UmbraError';
    this.failure = withHint(failure);
  }

  /** Makes an error of a failure that another process has reported, whatever its code. */
  static received(failure: Failure, cause?: unknown): UmbraError {
    return new UmbraError(failure as RaisedFailure, cause);
  }

  get code(): string {
    return this.failure.code;
  }
}

/** Makes a failure of whatever was thrown. A code that the error carries is kept. */
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
  const hint = failure.hint ?? entryOf(failure.code)?.hint;
  return hint === undefined ? failure : { ...failure, hint };
}
