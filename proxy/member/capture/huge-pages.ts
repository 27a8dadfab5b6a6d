/**
 * Joins a VM's memory into huge pages again, which a background snapshot has split.
 *
 *     QEMU takes the protection off page by page, as it saves them, and so splits every huge page:
 *
 *     2 MiB, one entry ──snapshot──▶ 512 entries ──khugepaged, in hours──▶ one entry
 *                                         └──────process_madvise, now────▶ one entry
 *
 * The next cut protects entry by entry, while the VM stands: 25 ms a GiB of small pages, less than 1 ms a
 * GiB of huge ones. MADV_COLLAPSE joins at once (Linux 6.1), whether all of it is in use or not:
 *
 *     used   where the VM has at least half of a huge page: no more is added than it has
 *     all    everywhere, also what the guest has never written: all of its RAM is backed from then on
 *     auto   what is used; and the rest while the host has plenty, unless the VM has a balloon, which is
 *            there to give back what the guest does not use
 *
 * What is added is accounted for: the room another round needs is not touched. What the VM has already
 * adds nothing, whatever it holds. Memory that is mapped from a file, as after a restore by `map`, is
 * left as it is: joining would fill the file's holes.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { totalmem } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import koffi from 'koffi';
import { measureRoom } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isAlive, type KnownProcess } from '../../host/known-process.ts';
import type { HugePageMode } from '../../protocol/round-settings.ts';
import type { RamBlockInfo } from '../qemu/qemu.ts';

// <asm/unistd.h>: the same on every architecture. libc has names for them since 2.36 only.
const SYS_PIDFD_OPEN = 434;
const SYS_PROCESS_MADVISE = 440;
const MADV_COLLAPSE = 25;
const EPERM = 1;
const PAGE_SIZE = 4096;
const ENTRY_SIZE = 8;
/** In the uppermost byte of an entry: it is there (bit 63), and mapped by this process alone (56). */
const OWNED = 0x81;
const TRANSPARENT = '/sys/kernel/mm/transparent_hugepage';
/** Of a huge page that the VM has: from there on it is used. */
const USED_SHARE = 0.5;
/** Of the host's memory: what is plenty, for `auto`. */
const PLENTY_SHARE = 1 / 8;
const KINDS = ['used', 'unused'] as const;
type Kind = (typeof KINDS)[number];

/** A RAM block; before QEMU 8.0 it is not known where. */
type Block = Pick<RamBlockInfo, 'length' | 'address'>;

export interface SplitMemory {
  readonly vm: KnownProcess;
  readonly which: Exclude<HugePageMode, 'leave'>;
  readonly hasBalloon: boolean;
  readonly blocks: readonly Block[];
  /** A folder on tmpfs, and what must stay available there. */
  readonly room: { readonly directory: string; readonly keepFreeBytes: number };
}

export interface Joined {
  readonly joinedBytes: number;
  /** Not in memory of the VM's own, or not to be told apart from other memory. */
  readonly leftBytes: number;
  /** Not joined for want of room. */
  readonly noRoomBytes: number;
  /** The kernel could not; some are pinned, or no huge page is to be had. */
  readonly refusedBytes: number;
}

/** Bytes that must stay available when a huge page of that kind is joined; of unused ones perhaps none is. */
export type Floors = { readonly used: number; readonly unused: number | undefined };

/** @param hostBytes all of its memory. PURE. */
export function floors(
  {
    which,
    hasBalloon,
    room: { keepFreeBytes },
  }: Pick<SplitMemory, 'which' | 'hasBalloon' | 'room'>,
  hostBytes: number,
): Floors {
  const used = keepFreeBytes;
  if (which === 'all') return { used, unused: used };
  if (which === 'used' || hasBalloon) return { used, unused: undefined };
  return { used, unused: keepFreeBytes + hostBytes * PLENTY_SHARE };
}

const NOTHING: Joined = { joinedBytes: 0, leftBytes: 0, noRoomBytes: 0, refusedBytes: 0 };

/**
 * Resolves when all is joined that can be, the VM has ended, or `signal` is aborted.
 * @throws UmbraError E_HUGE_PAGES if we may not, or the kernel cannot
 */
export async function joinHugePages(split: SplitMemory, signal: AbortSignal): Promise<Joined> {
  try {
    return await join(split, signal);
  } catch (error) {
    if (!isAlive(split.vm)) return NOTHING;
    const { message } = error as Error;
    const failure = { code: 'E_HUGE_PAGES', message, where: 'join huge pages' };
    throw new UmbraError(failure, error);
  }
}

async function join(split: SplitMemory, signal: AbortSignal): Promise<Joined> {
  const { vm } = split;
  const joined = { ...NOTHING };
  /** A page that somebody has in hand just then: they are tried once more. */
  const refused: bigint[] = [];
  const hugeBytes = hugePageBytes();
  const process = processOf(vm.pid);
  let pagemap: number | undefined;
  try {
    if (hugeBytes === undefined || !isAlive(vm)) return joined;
    const found = placed(split.blocks, readFileSync(`/proc/${vm.pid}/maps`, 'utf8'));
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

function* allOf(blocks: readonly Placed[], hugeBytes: number) {
  for (const block of blocks) yield* hugePages(block, hugeBytes);
}

type Placed = Required<Block>;

/** The blocks that are in memory of the VM's own, and how much of the others there is. */
function placed(
  blocks: readonly Block[],
  maps: string,
): { readonly blocks: readonly Placed[]; readonly leftBytes: number } {
  const memory = anonymousRanges(maps);
  let leftBytes = 0;
  const found = blocks.flatMap((block) => {
    const address = addressOf(block, memory);
    if (address === undefined) leftBytes += block.length;
    return address === undefined ? [] : { address, length: block.length };
  });
  return { blocks: found, leftBytes };
}

/** Where the shadows are, and in the control groups of the VM, which is charged. */
function available({ vm, room: { directory } }: SplitMemory): number {
  const ofVm = measureRoom(directory, { process: vm.pid });
  return Math.min(measureRoom(directory).availableBytes, ofVm.availableBytes);
}

/** Where the huge pages of a block begin: its first may begin later than the block. PURE. */
export function* hugePages({ address, length }: Placed, hugeBytes: number): Generator<bigint> {
  const before = Number(-address & BigInt(hugeBytes - 1));
  for (let at = before; at + hugeBytes <= length; at += hugeBytes) yield address + BigInt(at);
}

/** PURE. */
export function kindOf(absentBytes: number, hugeBytes: number): Kind {
  return absentBytes <= hugeBytes * (1 - USED_SHARE) ? 'used' : 'unused';
}

/**
 * How much of a process's private memory takes none of the host's: never written, given back, or swapped
 * out. From /proc/PID/pagemap, 8 bytes a page (Documentation/admin-guide/mm/pagemap.rst): a page that is
 * there and that nobody else has. The zero page, which a read of unwritten memory maps, belongs to nobody.
 * @param pagemap its descriptor
 * @throws Error if the process has ended
 */
export function absentBytes(pagemap: number, address: bigint, bytes: number): number {
  const entries = new Uint8Array((bytes / PAGE_SIZE) * ENTRY_SIZE);
  const position = (address / BigInt(PAGE_SIZE)) * BigInt(ENTRY_SIZE);
  if (readSync(pagemap, entries, { position }) < entries.length) {
    throw new Error(`/proc/PID/pagemap has nothing for 0x${address.toString(16)}`);
  }
  let absent = 0;
  for (let at = ENTRY_SIZE - 1; at < entries.length; at += ENTRY_SIZE) {
    if (((entries[at] ?? 0) & OWNED) !== OWNED) absent += PAGE_SIZE;
  }
  return absent;
}

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

/**
 * A process's private memory that no file is behind, from /proc/PID/maps (proc_pid_maps(5)). PURE.
 *
 *     7fe203e00000-7fe223e00000 rw-p 00000000 00:00 0
 */
export function anonymousRanges(maps: string): Range[] {
  const line = /^([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ [0-9a-f:]+ 0 *$/gm;
  return [...maps.matchAll(line)].map(([, start, end]) => {
    return { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) };
  });
}

/** Where a block begins, if it is in memory like that, and there is no doubt where. PURE. */
export function addressOf(
  { address, length }: Block,
  memory: readonly Range[],
): bigint | undefined {
  if (address !== undefined) {
    const end = address + BigInt(length);
    return memory.some((range) => range.start <= address && end <= range.end) ? address : undefined;
  }
  const alike = memory.filter(({ start, end }) => end - start === BigInt(length));
  return alike.length === 1 ? alike[0]?.start : undefined;
}

/** undefined where there are none, or the host's owner wants none. */
function hugePageBytes(): number | undefined {
  try {
    if (readFileSync(`${TRANSPARENT}/enabled`, 'latin1').includes('[never]')) return undefined;
    return Number(readFileSync(`${TRANSPARENT}/hpage_pmd_size`, 'latin1'));
  } catch {
    return undefined;
  }
}

const libc = koffi.load('libc.so.6');
const pidfdOpen = libc.func('long syscall(long number, long pid, long flags)');
const processMadvise = libc.func(
  'long syscall(long number, long pidfd, uint64_t *iovec, long count, long advice, long flags)',
);

/**
 * Tries whether huge pages of another process may be joined: of none of its memory.
 * @param pid one of the same user
 * @returns why not; undefined if they may
 */
export function joiningObstacle(pid: number): string | undefined {
  if (hugePageBytes() === undefined) return 'the kernel is told to make none';
  try {
    const process = processOf(pid);
    try {
      const none = BigUint64Array.of();
      if (madvise(process, none) === 0) return undefined;
      return koffi.errno() === EPERM ? NOT_ALLOWED : 'the kernel cannot (Linux 6.1 can)';
    } finally {
      closeSync(process);
    }
  } catch (error) {
    return (error as Error).message;
  }
}

const NOT_ALLOWED = 'not allowed: it takes CAP_SYS_NICE, and to trace QEMU';

function madvise(process: number, range: BigUint64Array): number {
  const count = range.length / 2;
  return Number(processMadvise(SYS_PROCESS_MADVISE, process, range, count, MADV_COLLAPSE, 0));
}

function processOf(pid: number): number {
  const process = Number(pidfdOpen(SYS_PIDFD_OPEN, pid, 0));
  if (process < 0) throw new Error(`pidfd_open of QEMU (process ${pid}): errno ${koffi.errno()}`);
  return process;
}

/** @returns false if the kernel cannot, there and now */
function collapse(process: number, address: bigint, bytes: number): boolean {
  if (madvise(process, BigUint64Array.of(address, BigInt(bytes))) >= 0) return true;
  if (koffi.errno() !== EPERM) return false;
  throw new Error(`process_madvise of QEMU: ${NOT_ALLOWED}`);
}
