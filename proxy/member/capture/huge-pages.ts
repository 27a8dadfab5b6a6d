/**
 * Joins a VM's memory into huge pages again, which a background snapshot has split.
 *
 *     QEMU takes the protection off page by page, as it saves them, and so splits every huge page:
 *
 *     2 MiB, one entry ──snapshot──▶ 512 entries ──khugepaged, in hours──▶ one entry
 *                                         └──────process_madvise, now────▶ one entry
 *
 * The next cut protects memory entry by entry while the VM is stopped: 25 ms a GiB of small pages,
 * less than 1 ms a GiB of huge ones.
 *
 * Memory that is added is accounted for: the room another round needs is not touched. Memory that
 * the VM already has adds nothing. Memory that is mapped from a file, as after a restore by `map`,
 * is left as it is: joining would fill the file's holes.
 */
import { closeSync, openSync } from 'node:fs';
import { totalmem } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { measureRoom } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isAlive } from '../../host/known-process.ts';
import { collapse, hugePageBytes, openPidfd } from '../../host/madvise.ts';
import { absentBytes } from '../../host/pagemap.ts';
import { readMaps } from '../../host/proc-maps.ts';
import {
  floors,
  hugePages,
  KINDS,
  kindOf,
  type LocatedBlock,
  locate,
  type SplitMemory,
} from './huge-page-policy.ts';

export type { SplitMemory };

export interface Joined {
  readonly joinedBytes: number;
  /** Bytes that are not in memory of the VM's own, or cannot be told apart from other memory. */
  readonly leftBytes: number;
  /** Bytes that were not joined for want of room. */
  readonly noRoomBytes: number;
  /** Bytes the kernel could not join: some are pinned, or no huge page is to be had. */
  readonly refusedBytes: number;
}

const NOTHING: Joined = { joinedBytes: 0, leftBytes: 0, noRoomBytes: 0, refusedBytes: 0 };

/**
 * Joins what can be joined, until the VM has ended or `signal` is aborted.
 * @throws UmbraError E_HUGE_PAGES if Umbra may not, or the kernel cannot
 */
export async function joinHugePages(split: SplitMemory, signal: AbortSignal): Promise<Joined> {
  try {
    return await join(split, signal);
  } catch (error) {
    if (!isAlive(split.vm)) return NOTHING;
    const { message } = error as Error;
    const failure = { code: 'E_HUGE_PAGES', message, where: 'join huge pages' };
    throw UmbraError.received(failure, error);
  }
}

async function join(split: SplitMemory, signal: AbortSignal): Promise<Joined> {
  const { vm } = split;
  const joined = { ...NOTHING };
  /** Huge pages with a small page that was in use just then. They are tried once more. */
  const refused: bigint[] = [];
  const hugeBytes = hugePageBytes();
  const process = openPidfd(vm.pid);
  let pagemap: number | undefined;
  try {
    if (hugeBytes === undefined || !isAlive(vm)) return joined;
    const found = locate(split.blocks, readMaps(vm.pid));
    joined.leftBytes = found.leftBytes;
    const keepFree = floors(split, totalmem());
    pagemap = openSync(`/proc/${vm.pid}/pagemap`, 'r');
    for (const kind of KINDS) {
      const keepFreeBytes = keepFree[kind];
      if (keepFreeBytes === undefined) continue;
      for (const address of allOf(found.blocks, hugeBytes)) {
        await nextTurn();
        if (signal.aborted) return joined;
        const addedBytes = absentBytes(pagemap, address, hugeBytes);
        if (kindOf(addedBytes, hugeBytes) !== kind) continue;
        const availableBytes = addedBytes > 0 ? available(split) : Number.POSITIVE_INFINITY;
        if (availableBytes - addedBytes < keepFreeBytes) joined.noRoomBytes += hugeBytes;
        else if (collapse(process, address, hugeBytes)) joined.joinedBytes += hugeBytes;
        else if (isAlive(vm)) refused.push(address);
        else return joined;
      }
    }
    for (const address of refused) {
      await nextTurn();
      if (signal.aborted) return joined;
      if (collapse(process, address, hugeBytes)) joined.joinedBytes += hugeBytes;
      else joined.refusedBytes += hugeBytes;
    }
    return joined;
  } finally {
    closeSync(process);
    if (pagemap !== undefined) closeSync(pagemap);
  }
}

function* allOf(blocks: readonly LocatedBlock[], hugeBytes: number) {
  for (const block of blocks) yield* hugePages(block, hugeBytes);
}

/** Returns the bytes available to the shadows and in the VM's control groups: the lesser counts. */
function available({ vm, room: { directory } }: SplitMemory): number {
  const ofVm = measureRoom(directory, { process: vm.pid });
  return Math.min(measureRoom(directory).availableBytes, ofVm.availableBytes);
}
