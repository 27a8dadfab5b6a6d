/**
 * Finds a VM's RAM blocks in QEMU's memory, and what kind of memory each lies in.
 *
 *     QEMU 8.0 on    x-query-ramblock names the address of each
 *     before         info mtree -f   where the guest has it ──gpa2hva──▶ where QEMU has it
 *
 * Before 8.0 a block that the guest does not see has no address: firmware that QEMU has loaded, and
 * tables that it hands over on demand (`/rom@…`). The guest cannot write those.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import { type MemoryRange, readMaps } from '../../host/proc-maps.ts';
import type { RamBlockInfo } from '../qemu/memory.ts';
import type { MemoryKind, WatchedBlock } from './ledger.ts';

const NEVER_WRITTEN = /^(?:\/rom@|pc\.(?:bios|rom)$)|\.rom$/;

/**
 * Finds the blocks.
 * @throws Error saying which cannot be found; QmpError
 */
export async function findBlocks(
  qmp: QmpClient,
  vm: KnownProcess,
  blocks: readonly RamBlockInfo[],
): Promise<WatchedBlock[]> {
  const addresses = await addressesOf(qmp, blocks);
  const maps = readMaps(vm.pid);
  return blocks.map(({ idstr, length: bytes }, at) => {
    const address = addresses[at];
    if (address === undefined && NEVER_WRITTEN.test(idstr)) {
      return { idstr, bytes, address, memory: undefined };
    }
    if (address === undefined) throw new Error(`QEMU does not tell where ${idstr} is (8.0 does)`);
    return { idstr, bytes, address, memory: kindOf(idstr, address, bytes, maps) };
  });
}

async function addressesOf(
  qmp: QmpClient,
  blocks: readonly RamBlockInfo[],
): Promise<(bigint | undefined)[]> {
  if (blocks.some(({ address }) => address !== undefined)) {
    return blocks.map(({ address }) => address);
  }
  const text = await hmp(qmp, 'info mtree -f');
  const views = parseFlatView(text);
  return Promise.all(
    blocks.map(async ({ idstr }) => {
      const place = views.find(({ name }) => idstr === name || idstr.endsWith(`/${name}`));
      if (place === undefined) return undefined;
      const answer = await hmp(qmp, `gpa2hva 0x${place.guest.toString(16)}`);
      const found = /is (?:0x)?([0-9a-f]+)\s*$/.exec(answer)?.[1];
      return found === undefined ? undefined : BigInt(`0x${found}`) - place.offset;
    }),
  );
}

async function hmp(qmp: QmpClient, command: string): Promise<string> {
  return qmp.execute('human-monitor-command', { 'command-line': command });
}

/** A piece of a memory region in the guest's address space. */
export interface MappedRegion {
  readonly name: string;
  /** First guest-physical address of the piece, and where in the region that is. */
  readonly guest: bigint;
  readonly offset: bigint;
}

/**
 * Reads the address space `memory` of `info mtree -f` (softmmu/memory.c, mtree_print_flatview):
 *
 *     FlatView #0
 *      AS "memory", root: system
 *       00000000000c0000-00000000000cafff (prio 0, ram): pc.ram @00000000000c0000 KVM
 *
 * PURE.
 */
export function parseFlatView(text: string): MappedRegion[] {
  const view = text.split(/^FlatView #\d+$/m).find((part) => /^ AS "memory"/m.test(part)) ?? '';
  const row = /^ +([0-9a-f]+)-[0-9a-f]+ \(prio -?\d+, (?:nv-)?ram\): (\S+)(?: @([0-9a-f]+))?/gm;
  return [...view.matchAll(row)].map(([, guest = '0', name = '', offset = '0']) => {
    return { name, guest: BigInt(`0x${guest}`), offset: BigInt(`0x${offset}`) };
  });
}

/** @throws Error if not all of it is mapped, or it lies in memory of different kinds */
function kindOf(
  idstr: string,
  address: bigint,
  bytes: number,
  maps: readonly MemoryRange[],
): MemoryKind {
  const end = address + BigInt(bytes);
  const parts = maps.filter((range) => range.start < end && range.end > address);
  const covered = parts.reduce((sum, { start, end: partEnd }) => {
    const from = start > address ? start : address;
    return sum + Number((partEnd < end ? partEnd : end) - from);
  }, 0);
  if (covered !== bytes) throw new Error(`${idstr} is not where QEMU says`);
  const kinds = new Set(
    parts.map(({ isPrivate, inode }) => {
      if (!isPrivate) return 'shared';
      return inode === 0 ? 'anonymous' : 'mapped';
    }),
  );
  const [kind, ...others] = kinds;
  if (kind === undefined || others.length > 0) throw new Error(`${idstr} lies in several kinds`);
  return kind;
}
