/**
 * QMP messages (docs/interop/qmp-spec.rst): what may arrive, told apart by its keys.
 *
 *     greeting  {"QMP": {"version": {...}, "capabilities": [...]}}      once, first
 *     return    {"return": ANY, "id": ID}
 *     error     {"error": {"class": C, "desc": D}, "id": ID}
 *     event     {"event": NAME, "data": {...}, "timestamp": {"seconds": S, "microseconds": U}}
 */
import { QmpError } from './errors.ts';

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** The distributor's package string; may be empty. */
  readonly package: string;
}

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** QEMU's own time stamp: host wall clock, microseconds since 1970. */
  readonly timestampUs: number;
}

export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: QemuVersion }
  | { readonly kind: 'return'; readonly id: number | undefined; readonly value: unknown }
  | {
      readonly kind: 'error';
      readonly id: number | undefined;
      readonly qemuClass: string;
      readonly description: string;
    }
  | { readonly kind: 'event'; readonly event: QmpEvent };

type Json = Readonly<Record<string, unknown>>;

/** @throws QmpError E_QMP_FRAME (not JSON) or E_QMP_NOT_QMP (JSON, but no QMP message). */
export function parseMessage(line: string): QmpMessage {
  const message = parseObject(line);
  if (isObject(message.event)) throw notQmp(line);
  if (typeof message.event === 'string') {
    return { kind: 'event', event: parseEvent(message.event, message) };
  }
  const id = typeof message.id === 'number' ? message.id : undefined;
  if ('return' in message) return { kind: 'return', id, value: message.return };
  if (isObject(message.error)) {
    const { class: qemuClass, desc } = message.error;
    return { kind: 'error', id, qemuClass: String(qemuClass), description: String(desc) };
  }
  if (isObject(message.QMP)) return { kind: 'greeting', version: parseVersion(message.QMP) };
  throw notQmp(line);
}

function parseObject(line: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new QmpError('E_QMP_FRAME', `not JSON: ${excerpt(line)}`, { cause });
  }
  if (!isObject(value)) throw notQmp(line);
  return value;
}

function parseEvent(name: string, message: Json): QmpEvent {
  const stamp = isObject(message.timestamp) ? message.timestamp : {};
  const timestampUs = Number(stamp.seconds ?? 0) * 1e6 + Number(stamp.microseconds ?? 0);
  return { name, data: isObject(message.data) ? message.data : {}, timestampUs };
}

function parseVersion(greeting: Json): QemuVersion {
  const version = isObject(greeting.version) ? greeting.version : {};
  const qemu = isObject(version.qemu) ? version.qemu : {};
  return {
    major: Number(qemu.major ?? 0),
    minor: Number(qemu.minor ?? 0),
    micro: Number(qemu.micro ?? 0),
    package: String(version.package ?? ''),
  };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function notQmp(line: string): QmpError {
  return new QmpError('E_QMP_NOT_QMP', `the peer does not speak QMP: ${excerpt(line)}`);
}

function excerpt(line: string): string {
  return JSON.stringify(line.length > 80 ? `${line.slice(0, 80)}…` : line);
}
