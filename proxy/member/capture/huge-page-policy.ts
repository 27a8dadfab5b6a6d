/**
 * Decides which memory of a VM may be joined into huge pages, and finds that memory. PURE.
 *
 *     used   where the VM has at least half of a huge page: no more is added than it has
 *     all    everywhere, also what the guest has never written: all of its RAM is backed then
 *     auto   what is used; and the rest while the host has plenty, unless the VM has a balloon,
 *            which is there to give back what the guest does not use
 */
import type { KnownProcess } from '../../host/known-process.ts';
import type { MemoryRange } from '../../host/proc-maps.ts';
import type { HugePageMode } from '../../protocol/round-settings.ts';
import type { RamBlockInfo } from '../qemu/memory.ts';

/** The share of a huge page that the VM must have for the page to count as used. */
const USED_SHARE = 0.5;
/** The share of the host's memory that must stay free for `auto` to join unused pages. */
const PLENTY_SHARE = 1 / 8;
export const KINDS = ['used', 'unused'] as const;
export type Kind = (typeof KINDS)[number];

/** A RAM block. Before QEMU 8.0 its address is not known. */
export type Block = Pick<RamBlockInfo, 'length' | 'address'>;
export type LocatedBlock = Required<Block>;

export interface SplitMemory {
  readonly vm: KnownProcess;
  readonly which: Exclude<HugePageMode, 'leave'>;
  readonly hasBalloon: boolean;
  readonly blocks: readonly Block[];
  /** A folder on tmpfs, and the bytes that must stay available there. */
  readonly room: { readonly directory: string; readonly keepFreeBytes: number };
}

/**
 * Bytes that must stay available on the host when a huge page of each kind is joined. `unused`
 * undefined: never join unused pages.
 */
export type Floors = { readonly used: number; readonly unused: number | undefined };

/** Returns what must stay available. @param hostBytes all memory of the host */
export function floors(
  split: Pick<SplitMemory, 'which' | 'hasBalloon' | 'room'>,
  hostBytes: number,
): Floors {
  const { which, hasBalloon, room } = split;
  const used = room.keepFreeBytes;
  if (which === 'all') return { used, unused: used };
  if (which === 'used' || hasBalloon) return { used, unused: undefined };
  return { used, unused: used + hostBytes * PLENTY_SHARE };
}

/** Returns the kind of a huge page. @param absentBytes bytes of it that the VM does not have */
export function kindOf(absentBytes: number, hugeBytes: number): Kind {
  return absentBytes <= hugeBytes * (1 - USED_SHARE) ? 'used' : 'unused';
}

/** Yields where the huge pages of a block begin. The first may begin later than the block. */
export function* hugePages(
  { address, length }: LocatedBlock,
  hugeBytes: number,
): Generator<bigint> {
  const before = Number(-address & BigInt(hugeBytes - 1));
  for (let at = before; at + hugeBytes <= length; at += hugeBytes) yield address + BigInt(at);
}

/** Returns a process's private memory that has no file behind it, and no name. */
export function anonymousRanges(maps: readonly MemoryRange[]): MemoryRange[] {
  return maps.filter(({ access, inode, path }) => access === 'rw-p' && inode === 0 && path === '');
}

/** Returns where a block begins, if it lies in such memory and there is no doubt where. */
export function addressOf(
  { address, length }: Block,
  memory: readonly MemoryRange[],
): bigint | undefined {
  if (address !== undefined) {
    const end = address + BigInt(length);
    return memory.some((range) => range.start <= address && end <= range.end) ? address : undefined;
  }
  const alike = memory.filter(({ start, end }) => end - start === BigInt(length));
  return alike.length === 1 ? alike[0]?.start : undefined;
}

/** Returns the blocks that lie in a VM's own memory, and the bytes of the others. */
export function locate(
  blocks: readonly Block[],
  maps: readonly MemoryRange[],
): { readonly blocks: readonly LocatedBlock[]; readonly leftBytes: number } {
  const memory = anonymousRanges(maps);
  let leftBytes = 0;
  const found = blocks.flatMap((block) => {
    const address = addressOf(block, memory);
    if (address === undefined) leftBytes += block.length;
    return address === undefined ? [] : { address, length: block.length };
  });
  return { blocks: found, leftBytes };
}
