/**
 * How a domain's QEMU is reached without libvirt. Libvirt's own monitor is borrowed only where a journal says
 * that a VM of ours is to be put right: it stands by our doing, and libvirt is not there to let it run.
 */
import { readFileSync } from 'node:fs';
import * as z from 'zod';
import type { MonitorSockets } from '../../qmp/libvirt/index.ts';
import { memberFile } from '../host/folders.ts';
import { monitorsOf } from '../libvirt/monitor-sockets.ts';
import { findDomainProcess } from '../libvirt/qemu-process.ts';
import { Journal } from './repair/journal.ts';

/** As much of the agent's note on the VM as lasts when the domain starts anew. */
const noteSchema = z.object({ commandLine: z.array(z.string()) });

export function monitorSockets(directory: string): MonitorSockets {
  const qemu = findDomainProcess(uuidOf(directory));
  if (qemu === undefined) return {};
  const { another, libvirts } = monitorsOf(qemu);
  const toBePutRight = new Journal(directory).read() !== undefined;
  return { own: another, borrowed: toBePutRight ? libvirts : undefined };
}

function uuidOf(directory: string): string {
  try {
    const note: unknown = JSON.parse(readFileSync(memberFile(directory, 'vm'), 'utf8'));
    const { commandLine } = noteSchema.parse(note);
    return commandLine[commandLine.indexOf('-uuid') + 1] ?? '';
  } catch {
    return ''; // nobody has looked for it yet
  }
}
