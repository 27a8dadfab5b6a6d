/**
 * Lines of a monitor: requests of a bridge's clients (monitor-bridge.ts), and output of virsh.
 * PURE.
 *
 *     qemu-monitor-command       {"return": …, "id": "libvirt-371"}      or "error: …"
 *     qemu-monitor-event         event STOP at 1700000000.123456 for domain 'd': {…}
 */
import { QmpError } from '../errors.ts';

type Json = Readonly<Record<string, unknown>>;

export interface MonitorRequest {
  readonly execute: string;
  readonly arguments?: Json;
  readonly id?: unknown;
}

/** Parses a client's request. @throws QmpError E_QMP_FRAME, E_QMP_NOT_QMP */
export function monitorRequest(line: string): MonitorRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (cause) {
    throw new QmpError('E_QMP_FRAME', 'the client does not speak JSON', { cause });
  }
  if (isRequest(request)) return request;
  throw new QmpError('E_QMP_NOT_QMP', 'the client does not speak QMP');
}

function isRequest(value: unknown): value is MonitorRequest {
  if (typeof value !== 'object' || value === null || !('execute' in value)) return false;
  const args = 'arguments' in value ? value.arguments : {};
  return typeof value.execute === 'string' && typeof args === 'object' && args !== null;
}

/** Returns the line that has virsh's shell send a command to the monitor. */
export function monitorCommand(domain: string, message: Json): string {
  // A single quote would end the shell's word; JSON can escape it.
  const json = JSON.stringify(message).replaceAll("'", '\\u0027');
  return `qemu-monitor-command --domain '${domain}' --cmd '${json}'`;
}

/** Finds QEMU's answer in the output of virsh; undefined if there is none. */
export function monitorAnswer(said: string): Json | undefined {
  for (const line of said.split('\n').reverse()) {
    if (!line.startsWith('{')) continue;
    try {
      const answer = JSON.parse(line) as Json;
      if ('return' in answer || 'error' in answer) return answer;
    } catch {
      // an echo of the command, cut by the terminal's width
    }
  }
  return undefined;
}

export interface MonitorEvent {
  readonly event: string;
  readonly data: Json;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** Parses an event line to the event as QEMU sent it; undefined for any other line. */
export function monitorEvent(line: string): MonitorEvent | undefined {
  const match = /^event (\S+) at (\d+)\.(\d+) for domain .*?: (.*)$/.exec(line.trim());
  const [, event, seconds, microseconds, details = ''] = match ?? [];
  if (event === undefined) return undefined;
  const timestamp = { seconds: Number(seconds), microseconds: Number(microseconds) };
  return { event, data: detailsOf(details), timestamp };
}

/** Parses an event's data; `{}` if it is not JSON, for the event itself is still of use. */
function detailsOf(text: string): Json {
  if (!text.startsWith('{')) return {};
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}
