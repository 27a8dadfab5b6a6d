/**
 * Names of the files that guests write to after a snapshot of their disks. PURE.
 *
 *     /vm/disk.raw  ◀──  /vm/disk.raw.umbra-CLUSTER.MEMBER-1a2b3c4d.qcow2  ◀──  …-5e6f7081.qcow2
 *                        a layer: what was written since the one below was frozen
 *
 * A layer is in the folder of its disk, and its name has its owner: in a folder of many disks, it
 * is plain which layers may be removed.
 */
import { posix } from 'node:path';
import type { FrozenDisk } from '../../shadow/index.ts';

export type { FrozenDisk };

const LAYER = /\.umbra-([a-z0-9.-]+)-[0-9a-f]{8}\.qcow2$/;

/** A file of a disk; `format` is QEMU's name for it, such as `raw` or `qcow2`. */
export type DiskLayer = FrozenDisk['layers'][number];

export interface SnapshottedDisk extends FrozenDisk {
  /** The file that the guest has written to since. */
  readonly layer: string;
}

/** Returns the owner's name in the layers of a member. */
export function layerOwner(cluster: string, member: string): string {
  return `${cluster}.${member}`;
}

/**
 * Returns the path of a new layer over a file.
 * @param id eight hexadecimal digits
 */
export function layerOver(path: string, owner: string, id: string): string {
  return `${diskUnder(path)}.umbra-${owner}-${id}.qcow2`;
}

/** Returns the file that all layers of a disk are named after. */
export function diskUnder(path: string): string {
  return path.replace(LAYER, '');
}

/** Says whether a file is a layer of an owner's. */
export function isLayerOf(path: string, owner: string): boolean {
  return LAYER.exec(posix.basename(path))?.[1] === owner;
}

export interface RestoredDisk extends FrozenDisk {
  /** The file the guest will write to; it does not exist yet. */
  readonly layer: string;
}
