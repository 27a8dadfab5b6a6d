/** Which process of this host is a domain's QEMU: libvirt gives each the domain's UUID. */
import { commandLineOf, processIds } from '../host/proc.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface DomainProcess {
  readonly pid: number;
  readonly commandLine: readonly string[];
}

export function findDomainProcess(uuid: string): DomainProcess | undefined {
  if (!UUID.test(uuid)) return undefined;
  for (const pid of processIds()) {
    const commandLine = commandLineOf(pid);
    if (commandLine[commandLine.indexOf('-uuid') + 1] === uuid) return { pid, commandLine };
  }
  return undefined;
}
