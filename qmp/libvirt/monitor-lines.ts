/**
 * What virsh prints of a monitor. PURE.
 *
 *     qemu-monitor-command       {"return": …, "id": "libvirt-371"}      or "error: …"
 *     qemu-monitor-event         event STOP at 1700000000.123456 for domain 'd': {…}
 */

type Json = Readonly<Record<string, unknown>>;

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
