/** All codes there are: Umbra's own, and those of QMP, libvirt, the store and the stream. PURE. */
import { QMP_ERRORS } from '../../qmp/errors.ts';
import { LIBVIRT_ERRORS } from '../../qmp/libvirt/errors.ts';
import { SHADOW_ERRORS } from '../../shadow/errors.ts';
import { STREAM_ERRORS } from '../stream/errors.ts';
import { type CodeEntry, type CodeTable, type OwnCode, SUBJECTS } from './codes.ts';

/** The hint of a refused stream; its message says what the source has to change. */
const STREAM_HINT =
  'The VM runs on, and epochs are as they were. Do as the message says, or try again.';

const STREAM: CodeTable = Object.fromEntries(
  Object.entries(STREAM_ERRORS).map(([code, meaning]) => [code, { meaning, hint: STREAM_HINT }]),
);

/** Every code, by subject. */
export const CATALOGUE: Readonly<Record<string, CodeTable>> = {
  ...SUBJECTS,
  Store: SHADOW_ERRORS,
  'QEMU’s monitor': QMP_ERRORS,
  libvirt: LIBVIRT_ERRORS,
  'The migration stream': STREAM,
};

/** A code that Umbra raises. */
export type FailureCode =
  | OwnCode
  | keyof typeof QMP_ERRORS
  | keyof typeof LIBVIRT_ERRORS
  | keyof typeof SHADOW_ERRORS
  | keyof typeof STREAM_ERRORS;

const ENTRIES: ReadonlyMap<string, CodeEntry> = new Map(
  Object.values(CATALOGUE).flatMap((table) => Object.entries(table)),
);

/** Returns what is known of a code; undefined if it is none of Umbra's (`ENOENT`, say). */
export function entryOf(code: string): CodeEntry | undefined {
  return ENTRIES.get(code);
}

/** Returns the HTTP status of an answer that carries a code. */
export function statusOf(code: string): number {
  return entryOf(code)?.status ?? 409;
}
