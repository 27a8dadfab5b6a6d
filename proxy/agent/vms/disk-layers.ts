/**
 * Files of disks on this host: layers are made for a restore, and removed when no epoch needs them.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { QmpClient } from '../../../qmp/index.ts';
import { diskFiles } from '../../command-line/disks.ts';
import { UmbraError } from '../../failure/failure.ts';
import { memberFile } from '../../host/folders.ts';
import {
  diskUnder,
  type FrozenDisk,
  isLayerOf,
  type RestoredDisk,
} from '../../protocol/disk-layer.ts';
import { monitorWhenThere } from './monitor-when-there.ts';

const START_LIMIT_MS = 20_000;

/**
 * Requires that the newest layer of each disk is there. Layers below it may have been merged since;
 * if one of those is missing, QEMU says so.
 * @throws UmbraError E_DISK_LAYER: a file of the epoch's is gone
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
 * Requires that no disk in a command line is a file with layers over it: a write to such a file
 * would make the layers wrong.
 * @throws UmbraError E_DISK_LAYERED
 */
export async function requireNoLayers(
  commandLine: readonly string[],
  workingDirectory: string,
  owner: string,
): Promise<void> {
  for (const file of diskFiles(commandLine, workingDirectory)) {
    if (isLayerOf(file, owner)) continue; // a command line that names a layer means it
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
 * Makes an empty layer over each disk, with the VM's own QEMU: that one knows every format of its
 * disks.
 * @param program the VM's QEMU, the first word of its command line
 * @param directory a folder in which a socket may be made
 * @throws UmbraError E_DISK_SNAPSHOT; no layer is left then
 */
export async function makeLayers(
  program: string,
  disks: readonly RestoredDisk[],
  directory: string,
): Promise<void> {
  if (disks.length === 0) return;
  const folder = await mkdtemp(join(directory, 'disks-'));
  const socket = memberFile(folder, 'monitor');
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
    'node-name': node,
    driver: top.format,
    'read-only': true,
    file,
  });
  await qmp.execute('blockdev-snapshot-sync', {
    'node-name': node,
    'snapshot-node-name': `${node}-over`,
    'snapshot-file': layer,
    format: 'qcow2',
  });
}

/**
 * Removes layers of a member that are neither in use nor needed for an epoch.
 * @param used every file that the member's VM uses now
 * @param epochs the disks of every epoch there is
 * @returns the paths of the removed layers
 */
export async function collectLayers(
  owner: string,
  used: readonly string[],
  epochs: readonly FrozenDisk[],
): Promise<string[]> {
  const needed = epochs.flatMap(({ layers: [top, ...below] }) => {
    if (top === undefined) return [];
    // Layers below one that the VM uses may have been merged; those of another branch have not.
    return used.includes(top.path) ? [top.path] : [top.path, ...below.map(({ path }) => path)];
  });
  // Real names are compared: a folder may be reached by two paths.
  const kept = new Set(await Promise.all([...used, ...needed].map(realNameOf)));
  // In a folder of many disks, another cluster of the same name may have layers over other disks.
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

/** Returns a file's path without symbolic links; the path itself if there is no such file. */
function realNameOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}
