/**
 * What clients of a bridge ask (monitor-bridge.ts), and what virsh prints of a monitor. PURE.
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

/** @throws QmpError E_QMP_FRAME, E_QMP_NOT_QMP */
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

/** The command's line for virsh's shell. */
export function monitorCommand(domain: string, message: Json): string {
  // Its quotes are the shell's; in JSON a quote can be written otherwise.
  const json = JSON.stringify(message).replaceAll("'", '\\u0027');
  return `qemu-monitor-command --domain '${domain}' --cmd '${json}'`;
}

/** @returns QEMU's answer; undefined if there is none in what virsh said */
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

/** @returns the event as QEMU has sent it; undefined for any other line */
export function monitorEvent(line: string): MonitorEvent | undefined {
  const match = /^event (\S+) at (\d+)\.(\d+) for domain .*?: (.*)$/.exec(line.trim());
  const [, event, seconds, microseconds, details = ''] = match ?? [];
  if (event === undefined) return undefined;
  const timestamp = { seconds: Number(seconds), microseconds: Number(microseconds) };
  return { event, data: detailsOf(details), timestamp };
}

/** What cannot be read is left out: that the event has come is told all the same. */
function detailsOf(text: string): Json {
  if (!text.startsWith('{')) return {};
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}
