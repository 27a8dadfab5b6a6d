/** Finds the QEMU of a domain on this host: libvirt starts each with the domain's UUID. */
import { readdirSync, readFileSync } from 'node:fs';
import { commandLineOf, processIds } from '../host/proc.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A domain's QEMU. */
export interface DomainProcess {
  readonly pid: number;
  readonly commandLine: readonly string[];
}

/**
 * Tells whether a QEMU of libvirt's has made its vCPUs, whose threads it names (`-name …,
 * debug-threads=on`): it has mapped its memory by then.
 */
export function hasVcpus(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).some((thread) => {
      return readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').startsWith('CPU ');
    });
  } catch {
    return false; // it has ended
  }
}

/** Returns the QEMU of a domain; undefined if none runs on this host. */
export function findDomainProcess(uuid: string): DomainProcess | undefined {
  if (!UUID.test(uuid)) return undefined;
  for (const pid of processIds()) {
    const commandLine = commandLineOf(pid);
    if (commandLine[commandLine.indexOf('-uuid') + 1] === uuid) return { pid, commandLine };
  }
  return undefined;
}
