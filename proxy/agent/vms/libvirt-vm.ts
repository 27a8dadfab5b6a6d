/**
 * VMs that libvirt runs. They are found and ended through libvirt, so that its state stays right.
 */
import { readlink } from 'node:fs/promises';
import { domainUuid, LibvirtError, virsh } from '../../../qmp/libvirt/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { startTimeOf } from '../../host/pid-file.ts';
import { findDomainProcess } from '../../libvirt/qemu-process.ts';
import type { LibvirtDomain } from '../../protocol/cluster.ts';
import type { VmProcess } from './vm-process.ts';

/**
 * Returns the domain's QEMU, which must run on this host.
 * @throws LibvirtError; UmbraError E_VM_NOT_FOUND
 */
export async function findDomain(address: LibvirtDomain): Promise<VmProcess> {
  const { uri, domain } = address;
  const uuid = await domainUuid(address);
  const state = await virsh(uri, ['domstate', uuid]);
  if (state === 'shut off' || state === 'crashed') {
    throw new LibvirtError('E_LIBVIRT_DOMAIN', `domain ${domain} is not running (${state})`, uri);
  }
  const found = findDomainProcess(uuid);
  if (found === undefined) {
    const message = `domain ${domain} of ${uri} does not run on this host`;
    const hint = 'Run an agent on the host of its libvirt: shadows are taken where the VM is.';
    throw new UmbraError({ code: 'E_VM_NOT_FOUND', message, hint });
  }
  const { pid } = found;
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => '/');
  const commandLine = [...found.commandLine];
  return { pid, startTime: startTimeOf(pid) ?? '', commandLine, workingDirectory, owned: false };
}

/** Returns the XML from which libvirt can make the domain anew. */
export async function domainXml(address: LibvirtDomain): Promise<string> {
  return virsh(address.uri, ['dumpxml', '--migratable', await domainUuid(address)]);
}

/** Ends a domain at once, as pulling the plug does. Does nothing if the domain does not run. */
export async function destroyDomain(address: LibvirtDomain): Promise<void> {
  try {
    await virsh(address.uri, ['destroy', await domainUuid(address)]);
  } catch (error) {
    if (!(error instanceof LibvirtError) || error.code !== 'E_LIBVIRT_DOMAIN') throw error;
  }
}
