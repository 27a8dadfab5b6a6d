/** Finds the QEMU of a domain on this host: libvirt starts each with the domain's UUID. */
import { commandLineOf, processIds } from '../host/proc.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A domain's QEMU. */
export interface DomainProcess {
  readonly pid: number;
  readonly commandLine: readonly string[];
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
