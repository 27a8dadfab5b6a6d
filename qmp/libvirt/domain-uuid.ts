/**
 * Names a domain beyond doubt. virsh takes a word for an id first, then for a UUID, then for a name
 * (tools/virsh-util.c, virshLookupDomainInternal): a domain named `7` would be taken for whichever
 * has that id.
 */
import { LibvirtError } from './errors.ts';
import type { DomainAddress } from './session.ts';
import { virsh } from './virsh.ts';

/**
 * Returns the UUID of the domain with exactly this name.
 * @throws LibvirtError E_LIBVIRT_DOMAIN if there is none
 */
export async function domainUuid({ uri, domain }: DomainAddress): Promise<string> {
  const list = await virsh(uri, ['list', '--all', '--uuid', '--name']);
  for (const line of list.split('\n')) {
    const [, uuid, name] = /^([0-9a-f-]{36}) +(.*)$/.exec(line) ?? [];
    if (uuid !== undefined && name?.trimEnd() === domain) return uuid;
  }
  throw new LibvirtError('E_LIBVIRT_DOMAIN', `there is no domain named ${domain}`, uri);
}
