/** `umbra export`: an epoch as files that libvirt restores, one a member. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { exportSaveImage } from '../../proxy/member/restore/save-image-export.ts';
import { relayCatalogue, shadowsOf } from '../../proxy/relay/relay-store.ts';
import { Catalogue, type EpochManifest, openShadow } from '../../shadow/index.ts';
import { readDomainXml } from './domain-xml.ts';
import { storedConfig } from './home.ts';
import { bytes, type Output, table } from './output.ts';

export interface ExportFlags {
  /** Folder for the images. */
  readonly libvirt: string;
  /** A relay's, instead of a cluster's. */
  readonly store?: string;
  /** FILE, or MEMBER=FILE. */
  readonly xml?: readonly string[];
}

interface Exported {
  readonly member: string;
  readonly file: string;
  readonly bytes: number;
}

/** Writes an epoch as save images. @throws UmbraError E_LIBVIRT_XML, E_EXPORT; ShadowError */
export async function exportEpoch(
  location: { readonly cluster: string } | { readonly store: string },
  epoch: number,
  { libvirt, xml = [] }: ExportFlags,
  output: Output,
): Promise<void> {
  const { catalogue, shadows } = openPlace(location);
  const manifest = await catalogue.read(epoch);
  const texts = xmlOf(manifest, xml);
  mkdirSync(libvirt, { recursive: true, mode: 0o700 });
  const exported: Exported[] = [];
  for (const { name, shadow } of manifest.members) {
    const file = join(libvirt, `${name}.save`);
    const shadowDirectory = join(shadows, manifest.round, name);
    const { identity } = (await openShadow(shadowDirectory, shadow)).manifest;
    const text = texts.get(name) ?? identity.domainXml;
    if (text === undefined) throw refused(`no domain XML of ${name}`);
    const size = await exportSaveImage({ shadowDirectory, sha256: shadow, xml: text, path: file });
    exported.push({ member: name, file, bytes: size });
  }
  const rows = exported.map((one) => [one.member, one.file, bytes(one.bytes)]);
  const how = exported.map(({ file }) => `virsh restore --paused ${file}`).join('\n');
  const text = `${table(['MEMBER', 'FILE', 'SIZE'], rows)}\n\n${how}`;
  output.result({ epoch, exported }, text);
}

function openPlace(location: { readonly cluster: string } | { readonly store: string }) {
  if ('store' in location) {
    if (!existsSync(shadowsOf(location.store))) {
      const message = `${location.store} is no relay’s store`;
      throw new UmbraError({ code: 'E_RELAY_STORE', message });
    }
    return { catalogue: relayCatalogue(location.store), shadows: shadowsOf(location.store) };
  }
  const { catalogueDirectory, shadowsDirectory, cluster } = storedConfig(location.cluster);
  return { catalogue: new Catalogue(catalogueDirectory, cluster), shadows: shadowsDirectory };
}

/**
 * Reads the domain XML that was given, by member. A shadow has XML of its own only if libvirt ran
 * the VM when the shadow was taken.
 */
function xmlOf(
  { members }: EpochManifest,
  spelled: readonly string[],
): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const one of spelled) {
    const [, named, file = ''] = /^(?:([a-z0-9-]+)=)?(.+)$/.exec(one) ?? [];
    const name = named ?? (members.length === 1 ? members[0]?.name : undefined);
    if (name === undefined || !members.some((member) => member.name === name)) {
      const names = members.map((member) => member.name).join(', ');
      throw refused(`--xml ${one}: give MEMBER=FILE for each of ${names}`);
    }
    texts.set(name, readDomainXml(file));
  }
  return texts;
}

function refused(message: string): UmbraError {
  return new UmbraError({ code: 'E_LIBVIRT_XML', message });
}
