/**
 * Finds what is in the way of tracking a VM. What writes guest memory past QEMU's own mapping, or
 * takes it away from a file, is not marked:
 *
 *     VFIO, vhost-user, vDPA   write by DMA, or from another process
 *     virtio-mem               has a stream that the decoder does not take
 *     a balloon                gives back pages; seen in anonymous memory alone (MADV_DONTNEED of a
 *                              file's pages is not marked)
 *     disks with cache.direct  write into pages that were pinned before: no obstacle, but marks may
 *                              be cleared only while the VM stands
 */
import { closeSync, readdirSync } from 'node:fs';
import type { QmpClient } from '../../../qmp/index.ts';
import { injectionObstacle } from '../../host/inject.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import { copyDescriptor } from '../../host/userfaultfd.ts';
import { canFindWritten } from '../../host/written-pages.ts';
import type { WatchedBlock } from './ledger.ts';

/** The command that saves the device state of a stopped VM (migration/savevm.c). */
const SAVE_STATE = 'xen-save-devices-state';

export interface TrackingNeeds {
  readonly vm: KnownProcess | undefined;
  /** A domain's monitor belongs to libvirt. */
  readonly isDomain: boolean;
}

/** Returns what is in the way on this host and of this QEMU, in words; nothing is changed. */
export async function trackingObstacle(
  qmp: QmpClient,
  { vm, isDomain }: TrackingNeeds,
): Promise<string | undefined> {
  if (vm === undefined) return 'its process is not known';
  if (isDomain) return 'libvirt’s monitor takes no descriptor for the device state';
  const host = injectionObstacle() ?? kernelObstacle() ?? rightsObstacle(vm);
  if (host !== undefined) return host;
  const commands = await qmp.execute('query-commands');
  if (commands.some(({ name }) => name === SAVE_STATE)) return undefined;
  return `this QEMU has no ${SAVE_STATE}`;
}

/** Returns what is in the way of tracking these blocks, in words. PURE. */
export function memoryObstacle(
  blocks: readonly WatchedBlock[],
  hasBalloon: boolean,
): string | undefined {
  const ofFile = blocks.find(({ memory }) => memory === 'mapped' || memory === 'shared');
  if (ofFile === undefined || !hasBalloon) return undefined;
  return `it has a balloon, and ${ofFile.idstr} lies in a file: what it gives back is not marked`;
}

/** Tells whether a disk passes the kernel's cache: what it reads arrives by DMA. */
export async function hasDirectDisk(qmp: QmpClient): Promise<boolean> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  return nodes.some(({ cache }) => cache?.direct === true);
}

function kernelObstacle(): string | undefined {
  return canFindWritten() ? undefined : 'the kernel cannot tell written pages (Linux 6.7 can)';
}

function rightsObstacle({ pid }: KnownProcess): string | undefined {
  try {
    const [fd] = readdirSync(`/proc/${pid}/fd`);
    closeSync(copyDescriptor(pid, Number(fd)));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
