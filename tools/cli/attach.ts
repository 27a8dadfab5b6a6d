/** Makes a cluster of VMs that already run, found by their QMP sockets or through libvirt. */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { findVm } from '../../proxy/agent/vms/vm-process.ts';
import { clusterDirectory, parseClusterConfig } from '../../proxy/config/config.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { QmpClient } from '../../qmp/index.ts';
import { virsh } from '../../qmp/libvirt/index.ts';
import { makeOwnFolder } from '../../shadow/index.ts';
import { up } from './cluster.ts';
import { examineCluster } from './doctor-members.ts';
import { umbraHome } from './home.ts';
import type { Output } from './output.ts';

/** Such as `qemu:///system`, `qemu+unix:///session?socket=…`. */
const LIBVIRT_URI = /^[a-z+]+:\/\//;

interface Attached {
  readonly name: string;
  readonly qmp?: string;
  readonly libvirt?: string;
  readonly domain?: string;
}

/**
 * Makes a cluster and starts its daemon.
 * @param places QMP sockets, `PATH` or `NAME=PATH`; without a name, QEMU's own (-name) or vmN is
 *   taken. Or URIs of libvirt, for all domains that run there.
 */
export async function attach(
  cluster: string,
  places: readonly string[],
  output: Output,
): Promise<void> {
  const directory = clusterDirectory(umbraHome(), cluster);
  const members: Attached[] = [];
  for (const [index, location] of places.entries()) {
    if (LIBVIRT_URI.test(location)) {
      members.push(...(await runningDomains(location)));
      continue;
    }
    const [, given, path = location] = /^([a-z0-9-]+)=(.*)$/.exec(location) ?? [];
    const qmp = resolve(path);
    await findVm(qmp);
    members.push({ name: given ?? (await ownName(qmp)) ?? `vm${index}`, qmp });
  }
  const file = join(directory, 'cluster.yaml');
  const text = stringify({ cluster, members });
  // Checked before a folder is made for it.
  parseClusterConfig(text, file, umbraHome());
  makeOwnFolder(directory);
  writeFileSync(file, text, { mode: 0o600 });
  output.say(`wrote ${file}; adjust it to taste and start from it with umbra up`);
  await up(file, cluster, true, output);
  for (const { check, verdict, found, fix } of await examineCluster(cluster)) {
    if (verdict !== 'ok') output.say(`${check}: ${found}${fix === undefined ? '' : `; ${fix}`}`);
  }
}

async function runningDomains(uri: string): Promise<Attached[]> {
  const names = (await virsh(uri, ['list', '--name', '--state-running'])).split('\n');
  const domains = names.map((name) => name.trim()).filter((name) => name !== '');
  if (domains.length === 0) {
    const message = `no domain runs at ${uri}`;
    throw new UmbraError({ code: 'E_LIBVIRT_DOMAIN', message });
  }
  return domains.map((domain, index) => {
    return { name: slug(domain) ?? `vm${index}`, libvirt: uri, domain };
  });
}

/** Returns QEMU's -name, if it can be a member's name. */
async function ownName(qmp: string): Promise<string | undefined> {
  const client = await QmpClient.connect(qmp);
  try {
    const { name } = await client.execute('query-name');
    return name === undefined ? undefined : slug(name);
  } finally {
    client.close();
  }
}

/** Makes a member's name of another name. @returns undefined if nothing is left of it */
function slug(name: string): string | undefined {
  const plain = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return (
    plain
      .replaceAll(/^-+|-+$/g, '')
      .slice(0, 32)
      .replace(/-+$/, '') || undefined
  );
}
