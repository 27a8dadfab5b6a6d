/** The files of disks on this host: made for a restore, and removed when nobody needs them. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { QmpClient } from '../../../qmp/index.ts';
import { diskFiles } from '../../command-line/disks.ts';
import { UmbraError } from '../../failure/failure.ts';
import {
  diskUnder,
  type FrozenDisk,
  isLayerOf,
  type RestoredDisk,
} from '../../protocol/disk-layer.ts';
import { monitorWhenThere } from './monitor-when-there.ts';

const START_LIMIT_MS = 20_000;

/**
 * Layers below the newest may have been merged since; what is missing there, QEMU finds.
 * @throws UmbraError E_DISK_LAYER: a file of an epoch's is gone
 */
export function requireLayers(disks: readonly RestoredDisk[]): void {
  for (const { device, layers } of disks) {
    const [top] = layers;
    if (top === undefined || existsSync(top.path)) continue;
    const message = `${top.path}, of ${device}, is gone`;
    throw new UmbraError({ code: 'E_DISK_LAYER', message });
  }
}

/**
 * A disk that has layers must not be written to any more: what lies over it would be nonsense.
 * @throws UmbraError E_DISK_LAYERED: the VM would be started on such a file
 */
export async function requireNoLayers(
  commandLine: readonly string[],
  workingDirectory: string,
  owner: string,
): Promise<void> {
  for (const file of diskFiles(commandLine, workingDirectory)) {
    if (isLayerOf(file, owner)) continue; // whoever names one has chosen it
    const names = await readdir(dirname(file)).catch(() => []);
    const layers = names.filter((name) => {
      return name.startsWith(`${basename(file)}.`) && isLayerOf(name, owner);
    });
    const [layer] = layers;
    if (layer === undefined) continue;
    const message = `${file} is frozen: ${layers.length} layers lie over it, ${layer} for one`;
    throw new UmbraError({ code: 'E_DISK_LAYERED', message });
  }
}

/**
 * Makes an empty layer over each disk, as the VM's own QEMU does: it knows every format its disks are in.
 * @param program the VM's QEMU, the first word of its command line
 * @param directory a folder of ours, for a socket
 * @throws UmbraError E_DISK_SNAPSHOT; none is left then
 */
export async function makeLayers(
  program: string,
  disks: readonly RestoredDisk[],
  directory: string,
): Promise<void> {
  if (disks.length === 0) return;
  const folder = await mkdtemp(join(directory, 'disks-'));
  const socket = join(folder, 'qmp.sock');
  const idle = ['-machine', 'none', '-nodefaults', '-display', 'none', '-S'];
  const monitor = ['-qmp', `unix:${socket},server=on,wait=off`];
  const child = spawn(program, [...idle, ...monitor], { stdio: 'ignore' });
  const ended = new AbortController();
  const exited = new Promise<void>((resolve) => {
    const end = (cause: unknown) => {
      ended.abort(cause instanceof Error ? cause : new Error(`${program} ended (${cause})`));
      resolve();
    };
    child.once('error', end).once('exit', end);
  });
  try {
    const qmp = await monitorWhenThere(socket, START_LIMIT_MS, ended.signal);
    try {
      for (const [index, disk] of disks.entries()) await makeLayer(qmp, disk, `below-${index}`);
    } finally {
      qmp.close();
    }
  } catch (error) {
    for (const { layer } of disks) await rm(layer, { force: true });
    const message = `no layer could be made for a disk: ${(error as Error).message}`;
    throw new UmbraError({ code: 'E_DISK_SNAPSHOT', message }, error);
  } finally {
    child.kill('SIGKILL');
    await exited;
    await rm(folder, { recursive: true, force: true });
  }
}

async function makeLayer(
  qmp: QmpClient,
  { layers, layer }: RestoredDisk,
  node: string,
): Promise<void> {
  const [top] = layers;
  if (top === undefined) throw new Error('a disk without a file');
  const file = { driver: 'file', filename: top.path };
  await qmp.execute('blockdev-add', {
    ...{ 'node-name': node, driver: top.format, 'read-only': true, file },
  });
  await qmp.execute('blockdev-snapshot-sync', {
    ...{ 'node-name': node, 'snapshot-node-name': `${node}-over` },
    ...{ 'snapshot-file': layer, format: 'qcow2' },
  });
}

/**
 * Removes layers of a member that are neither in use nor needed for an epoch.
 * @param used every file its VM uses now
 * @param epochs the disks of every epoch there is
 * @returns what was removed
 */
export async function collectLayers(
  owner: string,
  used: readonly string[],
  epochs: readonly FrozenDisk[],
): Promise<string[]> {
  const needed = epochs.flatMap(({ layers: [top, ...below] }) => {
    if (top === undefined) return [];
    // What the VM has of it is what is left of it; another branch is as it was.
    return used.includes(top.path) ? [top.path] : [top.path, ...below.map(({ path }) => path)];
  });
  // By their real names: a folder that is reached by two ways must not make strangers of its files.
  const kept = new Set(await Promise.all([...used, ...needed].map(realNameOf)));
  // In a folder of many disks, another cluster of the same name may have layers over others.
  const disks = new Set([...kept].map(diskUnder));
  const removed: string[] = [];
  for (const folder of new Set([...kept].map((path) => dirname(path)))) {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      if (!isLayerOf(name, owner) || kept.has(path) || !disks.has(diskUnder(path))) continue;
      await rm(path, { force: true });
      removed.push(path);
    }
  }
  return removed;
}

/** What is not there has no other name. */
function realNameOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}
