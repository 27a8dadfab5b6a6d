/** Makes a cluster of VMs that already run, found by their QMP sockets. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { findVm } from '../../proxy/agent/vm-process.ts';
import { clusterDirectory, parseClusterConfig } from '../../proxy/config.ts';
import { QmpClient } from '../../qmp/index.ts';
import { up } from './commands.ts';
import { umbraHome } from './home.ts';
import type { Output } from './output.ts';

/** @param sockets `PATH` or `NAME=PATH`; without a name, QEMU's own (-name) or vmN is taken */
export async function attach(
  cluster: string,
  sockets: readonly string[],
  output: Output,
): Promise<void> {
  const directory = clusterDirectory(umbraHome(), cluster);
  const members: { name: string; qmp: string }[] = [];
  for (const [index, socket] of sockets.entries()) {
    const [, given, path = socket] = /^([a-z0-9-]+)=(.*)$/.exec(socket) ?? [];
    const qmp = resolve(path);
    await findVm(qmp);
    members.push({ name: given ?? (await ownName(qmp)) ?? `vm${index}`, qmp });
  }
  const file = join(directory, 'cluster.yaml');
  const text = stringify({ cluster, members });
  // Checked before a folder is made for it.
  parseClusterConfig(text, file, umbraHome());
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(file, text, { mode: 0o600 });
  output.say(`wrote ${file}; adjust it to taste and start from it with umbra up`);
  await up(file, cluster, true, output);
}

/** QEMU's -name, if it serves as a member's name. */
async function ownName(qmp: string): Promise<string | undefined> {
  const client = await QmpClient.connect(qmp);
  try {
    const { name } = await client.execute('query-name');
    return (
      name
        ?.toLowerCase()
        .replaceAll(/[^a-z0-9]+/g, '-')
        .replaceAll(/^-+|-+$/g, '') || undefined
    );
  } finally {
    client.close();
  }
}
