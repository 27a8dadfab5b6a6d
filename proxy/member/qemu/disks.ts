/**
 * Snapshots the disks of a VM that is stopped at the barrier: external snapshots, one transaction.
 *
 *     before    disk.raw ◀── guest
 *     after     disk.raw ◀── layer ◀── guest          disk.raw is frozen: the epoch names it
 *
 * A layer stays when its round is aborted: it holds what the guest has written since. Layers that
 * no epoch needs are merged into the ones above them while the VM runs (block-stream), so chains do
 * not grow from round to round:
 *
 *     disk.raw ◀── a ◀── b ◀── guest     no epoch needs a: b takes over what is in a
 *     disk.raw ◀──────── b ◀── guest     b reads the same: epochs that name it stay whole
 *
 * The guest's own layer is left out: a snapshot could not be taken while it is merged into.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BlockImage, BlockNode, QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import {
  type DiskLayer,
  type FrozenDisk,
  isLayerOf,
  layerOver,
  type SnapshottedDisk,
} from '../../protocol/disk-layer.ts';

/** The most layers of a disk: each slows every read, and QEMU walks them by recursion. */
const LAYERS_MAX = 200;
const JOB = 'umbra-merge-';
const POLL_MS = 20;

export interface Disk extends FrozenDisk {
  /** The node that the guest writes to. */
  readonly node: string;
}

/**
 * Returns the disks that the guest can write to.
 * @param workingDirectory the folder that relative paths in the VM's command line are relative to
 */
export async function writableDisks(qmp: QmpClient, workingDirectory: string): Promise<Disk[]> {
  const disks = await allDisks(qmp, workingDirectory);
  return disks.filter(({ isWritable }) => isWritable);
}

/** Returns every disk with a medium. @param workingDirectory as for `writableDisks` */
export async function allDisks(qmp: QmpClient, workingDirectory: string) {
  const blocks = await qmp.execute('query-block');
  return blocks.flatMap(({ device, qdev, inserted }) => {
    if (inserted === undefined) return [];
    const layers = layersOf(inserted.image, workingDirectory);
    const node = inserted['node-name'] ?? '';
    return [{ device: device || (qdev ?? 'a disk'), node, layers, isWritable: !inserted.ro }];
  });
}

function layersOf(image: BlockImage | undefined, workingDirectory: string): DiskLayer[] {
  if (image === undefined) return [];
  const { filename, format } = image;
  const isFile = !/^(json:|[a-z][a-z0-9+.-]*:)/.test(filename);
  const path = isFile ? resolve(workingDirectory, filename) : filename;
  return [{ path, format }, ...layersOf(image['backing-image'], workingDirectory)];
}

/**
 * Returns why a disk cannot be snapshotted, in words; undefined if it can.
 * @param isDomains libvirt runs the VM
 */
export function snapshotObstacle(
  { device, layers, node }: Disk,
  isDomains: boolean,
): string | undefined {
  if (isDomains) return `${device}: libvirt keeps a record of disks, which a snapshot contradicts`;
  const other = layers.find(({ path }) => !path.startsWith('/'));
  if (layers.length === 0 || node === '') return `${device} is no image that QEMU describes`;
  if (other !== undefined) return `${device} is not in a file (${other.path})`;
  if (layers.length > LAYERS_MAX) return `${device} has ${layers.length} layers; merge some`;
  return undefined;
}

/**
 * Freezes disks as they are. The VM must be stopped.
 * @param limitMs the longest QEMU may take: it flushes the disks first
 * @throws UmbraError E_DISK_SNAPSHOT: none is
 */
export async function freezeDisks(
  qmp: QmpClient,
  disks: readonly Disk[],
  owner: string,
  limitMs: number,
): Promise<SnapshottedDisk[]> {
  const snapshots = disks.map((disk) => {
    return { ...disk, ...freshLayer(disk.layers[0]?.path ?? '', owner) };
  });
  const actions = snapshots.map(({ node, id, layer }) => {
    const names = { 'node-name': node, 'snapshot-node-name': `umbra-${id}` };
    const data = { ...names, 'snapshot-file': layer, format: 'qcow2' };
    return { type: 'blockdev-snapshot-sync', data } as const;
  });
  try {
    await qmp.execute('transaction', { actions }, { timeoutMs: limitMs });
  } catch (error) {
    const message = `the disks were not snapshotted: ${(error as Error).message}`;
    throw new UmbraError({ code: 'E_DISK_SNAPSHOT', message }, error);
  }
  return snapshots.map(({ device, layers, layer }) => ({ device, layers, layer }));
}

/** Returns a layer that does not exist yet: QEMU would write over an existing file. */
function freshLayer(below: string, owner: string): { id: string; layer: string } {
  for (;;) {
    const id = randomBytes(4).toString('hex');
    const layer = layerOver(below, owner, id);
    if (!existsSync(layer)) return { id, layer };
  }
}

/**
 * Begins to merge layers that no epoch needs, one of each disk at a time. Does not wait for it.
 * @param needed files whose content epochs need: the newest layer of each of their disks
 * @returns every file that the VM uses now
 */
export async function mergeLayers(
  qmp: QmpClient,
  workingDirectory: string,
  owner: string,
  needed: ReadonlySet<string>,
): Promise<string[]> {
  const disks = await allDisks(qmp, workingDirectory);
  const jobs = await qmp.execute('query-block-jobs');
  const busy = new Set(jobs.map(({ device }) => device));
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  for (const disk of disks.filter(({ isWritable }) => isWritable)) {
    const merge = mergeOf(disk.layers, owner, needed);
    const [device, base] = [nodeOf(nodes, merge?.into), nodeOf(nodes, merge?.base)];
    if (device === undefined || base === undefined) continue;
    const job = `${JOB}${disk.node}`.replaceAll('#', '');
    if (busy.has(job)) continue;
    await qmp.execute('block-stream', { 'job-id': job, device, 'base-node': base });
  }
  return disks.flatMap(({ layers }) => layers.map(({ path }) => path));
}

/**
 * Waits until Umbra merges no layers any more: a job that writes to a disk rules a migration out.
 * @param limitMs the longest that it waits
 */
export async function ownMergesEnd(qmp: QmpClient, limitMs: number): Promise<void> {
  for (const end = performance.now() + limitMs; performance.now() < end; await delay(POLL_MS)) {
    const jobs = await qmp.execute('query-block-jobs');
    if (!jobs.some(({ device }) => device.startsWith(JOB))) return;
  }
}

export interface Merge {
  /** Takes over what is in `layer`, and reads the same as before. */
  readonly into: string;
  readonly layer: string;
  /** The file that `into` will lie on. */
  readonly base: string;
}

/** Chooses the lowest layer that no epoch needs: it has been so for longest. PURE. */
export function mergeOf(
  layers: readonly DiskLayer[],
  owner: string,
  needed: ReadonlySet<string>,
): Merge | undefined {
  for (let at = layers.length - 2; at > 1; at--) {
    const [into, layer, base] = [layers[at - 1]?.path, layers[at]?.path, layers[at + 1]?.path];
    if (into === undefined || layer === undefined || base === undefined) continue;
    if (isLayerOf(layer, owner) && !needed.has(layer)) return { into, layer, base };
  }
  return undefined;
}

/** Returns the node of an image's format, not that of the file below it. */
function nodeOf(nodes: readonly BlockNode[], path: string | undefined): string | undefined {
  return nodes.find(({ file, drv }) => file === path && drv !== 'file')?.['node-name'];
}
