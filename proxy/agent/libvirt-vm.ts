/** VMs that libvirt runs: found, ended and brought back through it, so that it knows of all that happens. */
import { readdirSync, readFileSync } from 'node:fs';
import { readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LibvirtError, virsh } from '../../qmp/index.ts';
import type { LibvirtPlace } from '../config.ts';
import { UmbraError } from '../failure.ts';
import { exportSaveImage } from '../libvirt/export.ts';
import { startTimeOf } from './process-card.ts';
import type { VmProcess } from './vm-process.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const RESTORE_LIMIT_MS = 300_000;

/**
 * The domain's QEMU, on this host.
 * @throws LibvirtError; UmbraError E_VM_NOT_FOUND
 */
export async function findDomain({ uri, domain }: LibvirtPlace): Promise<VmProcess> {
  const state = await virsh(uri, ['domstate', domain]);
  if (state === 'shut off' || state === 'crashed') {
    throw new LibvirtError('E_LIBVIRT_DOMAIN', `domain ${domain} is not running (${state})`, uri);
  }
  const uuid = await virsh(uri, ['domuuid', domain]);
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const commandLine = Number.isInteger(pid) ? commandLineOf(pid) : [];
    if (!UUID.test(uuid) || commandLine[commandLine.indexOf('-uuid') + 1] !== uuid) continue;
    const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => '/');
    return { pid, startTime: startTimeOf(pid) ?? '', commandLine, workingDirectory, owned: false };
  }
  const message = `domain ${domain} of ${uri} does not run on this host`;
  const hint = 'Run an agent on the host of its libvirt: shadows are taken where the VM is.';
  throw new UmbraError({ code: 'E_VM_NOT_FOUND', message, hint });
}

/** As libvirt would need it to make the domain anew. */
export function domainXml({ uri, domain }: LibvirtPlace): Promise<string> {
  return virsh(uri, ['dumpxml', '--migratable', domain]);
}

/** At once, as pulling the plug. Nothing happens if it does not run. */
export async function destroyDomain({ uri, domain }: LibvirtPlace): Promise<void> {
  try {
    await virsh(uri, ['destroy', domain]);
  } catch (error) {
    if (!(error instanceof LibvirtError) || error.code !== 'E_LIBVIRT_DOMAIN') throw error;
  }
}

/**
 * Brings a domain up from a shadow, paused.
 * @param directory a folder that libvirt can read, for an image that is removed afterwards
 * @returns bytes of the image
 */
export async function restoreDomain(
  { uri, domain }: LibvirtPlace,
  shadowDirectory: string,
  xml: string,
  directory: string,
): Promise<number> {
  const path = join(directory, `${domain}.save`);
  try {
    const bytes = await exportSaveImage({ shadowDirectory, xml, path });
    await virsh(uri, ['restore', '--paused', path], RESTORE_LIMIT_MS);
    return bytes;
  } finally {
    await rm(path, { force: true });
  }
}

function commandLineOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return []; // it went away
  }
}
