/**
 * The spelling of the pause before a socket is connected again, which depends on QEMU's version.
 * PURE.
 *
 *     up to 11.0     reconnect=N      seconds
 *     since 9.2      reconnect-ms=N   milliseconds      (qapi/char.json, qapi/net.json)
 */
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** Options whose sockets have it, each with the key that a first word without `=` has. */
const IMPLIED: Readonly<Record<string, string>> = { netdev: 'type', chardev: 'backend' };
const MILLISECONDS_SINCE = [9, 2] as const;

/** Returns the options as a QEMU of this version spells them. @param version such as `10.0.2` */
export function withReconnect(options: readonly QemuOption[], version: string): QemuOption[] {
  const knowsMs = isAtLeast(version, MILLISECONDS_SINCE);
  return options.map((option) => {
    const implied = IMPLIED[option.name];
    if (implied === undefined) return option;
    const value = new OptionValue(option.value ?? '', implied);
    const [from, to] = knowsMs ? ['reconnect', 'reconnect-ms'] : ['reconnect-ms', 'reconnect'];
    const pause = Number(value.get(from));
    if (value.get(from) === undefined || !Number.isFinite(pause)) return option;
    value.delete(from);
    value.set(to, String(knowsMs ? pause * 1000 : Math.ceil(pause / 1000)));
    return { name: option.name, value: value.format() };
  });
}

/** Compares a version with the first one that has a feature. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [one = 0, two = 0] = version.split('.').map(Number);
  return one > major || (one === major && two >= minor);
}
