/**
 * Finds monitor sockets of a domain's QEMU, to reach it without libvirt. Libvirt's own monitor is
 * borrowed only where a journal says that a VM is to be repaired: Umbra has stopped it, and libvirt
 * is not there to resume it.
 */
import { readFileSync } from 'node:fs';
import * as z from 'zod';
import type { MonitorSockets } from '../../qmp/libvirt/index.ts';
import { memberFile } from '../host/folders.ts';
import { monitorsOf } from '../libvirt/monitor-sockets.ts';
import { findDomainProcess } from '../libvirt/qemu-process.ts';
import { Journal } from './repair/journal.ts';

/** The part of the agent's note on the VM that stays true when the domain is started again. */
const noteSchema = z.object({ commandLine: z.array(z.string()) });

/** Returns the sockets of the domain that a member's folder belongs to; none if it does not run. */
export function monitorSockets(directory: string): MonitorSockets {
  const qemu = findDomainProcess(uuidOf(directory));
  if (qemu === undefined) return {};
  const { another, libvirts } = monitorsOf(qemu);
  const isToBeRepaired = new Journal(directory).read() !== undefined;
  return { own: another, borrowed: isToBeRepaired ? libvirts : undefined };
}

function uuidOf(directory: string): string {
  try {
    const note: unknown = JSON.parse(readFileSync(memberFile(directory, 'vm'), 'utf8'));
    const { commandLine } = noteSchema.parse(note);
    return commandLine[commandLine.indexOf('-uuid') + 1] ?? '';
  } catch {
    return ''; // the agent has not written it yet
  }
}
