/** Which process of this host is a domain's QEMU: libvirt gives each the domain's UUID. */
import { readdirSync, readFileSync } from 'node:fs';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface DomainProcess {
  readonly pid: number;
  readonly commandLine: readonly string[];
}

export function findDomainProcess(uuid: string): DomainProcess | undefined {
  if (!UUID.test(uuid)) return undefined;
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const commandLine = Number.isInteger(pid) ? commandLineOf(pid) : [];
    if (commandLine[commandLine.indexOf('-uuid') + 1] === uuid) return { pid, commandLine };
  }
  return undefined;
}

function commandLineOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return []; // it went away
  }
}
