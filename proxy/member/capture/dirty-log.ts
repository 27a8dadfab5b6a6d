/**
 * How far QEMU's log of dirtied pages can be trusted, and what is done where it cannot. Hardware keeps it
 * under KVM. Without, QEMU's emulator does (TCG), in the software TLBs of its vCPUs, beside the thread that
 * reads it, and writes have been missed there:
 *
 *     before 9.0   all those of vCPUs that knew a page as dirty when it was sent (QEMU commit 03bfc2188f)
 *     since        in instants: a vCPU looks whether a page is clean, then enters it as dirty, and the log is
 *                  read in between (tlb_set_page_full and notdirty_write, accel/tcg/cputlb.c); or it is not
 *                  told of cleared bits, none of which was new (`if (num_dirty)`, migration/ram.c)
 *
 * A page that was missed is an old one in the stream, with no error anywhere. So the memory of an emulated VM
 * is compared with its shadow while it stands, and what differs is written again:
 *
 *     stream whole, QEMU waits for our vote ──▶ /proc/PID/mem ─┐
 *                                               shadow ────────┴▶ the same, or taken from memory ──▶ vote
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isAlive, type KnownProcess } from '../../host/known-process.ts';
import type { StreamedMemory } from '../../intake/shadow-sink.ts';
import type { PrepareCommand } from '../../protocol/member.ts';
import type { RamBlockInfo } from '../qemu/qemu.ts';

const COMPARED_SINCE_MAJOR = 9;
const PAGE_SIZE = 4096;
const PIECE_BYTES = 2 ** 20;
/** Some ten milliseconds, after which the process looks at what else there is. */
const PIECES_A_TURN = 16;
const ZEROS = Buffer.alloc(PAGE_SIZE);

export type PrecopyOptions = Pick<PrepareCommand, 'vm' | 'compareEmulated'>;

/**
 * Can precopy be trusted here?
 * @returns why not, or undefined if it can
 */
export async function precopyObstacle(
  qmp: QmpClient,
  { vm, compareEmulated }: PrecopyOptions,
): Promise<string | undefined> {
  const { major, minor } = qmp.version;
  if (!(await isEmulated(qmp))) return undefined;
  if (major < COMPARED_SINCE_MAJOR) {
    return `QEMU ${major}.${minor} under TCG loses dirty pages in precopy (fixed in 9.0)`;
  }
  if (!compareEmulated) return undefined;
  const why = comparingObstacle(vm);
  if (why === undefined) return undefined;
  return `QEMU under TCG can miss a dirty page in precopy, and its memory is not to be compared: ${why}`;
}

export async function isEmulated(qmp: QmpClient): Promise<boolean> {
  return !(await qmp.execute('query-kvm')).enabled;
}

function comparingObstacle(vm: KnownProcess | undefined): string | undefined {
  if (vm === undefined) return 'it is not known which process it is';
  try {
    new VmMemory(vm).close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The memory of a QEMU, at its own addresses. */
export class VmMemory {
  readonly #fd: number;
  #open = true;

  /** @throws Error when it may not be read (ptrace(2), PTRACE_MODE_ATTACH), or is gone */
  constructor(vm: KnownProcess) {
    this.#fd = openSync(`/proc/${vm.pid}/mem`, 'r');
    // Asked when it is open: from here on a pid that is given away does not matter.
    if (isAlive(vm)) return;
    closeSync(this.#fd);
    throw new Error(`process ${vm.pid} is gone`);
  }

  /** @throws Error if not all of it is there */
  read(address: bigint, into: Uint8Array): void {
    if (!this.#open) throw new Error('closed');
    const got = readSync(this.#fd, into, 0, into.length, address);
    if (got === into.length) return;
    throw new Error(`${got} of ${into.length} bytes at 0x${address.toString(16)}`);
  }

  /** Idempotent. */
  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

/**
 * Compares a VM that stands with what it has streamed, and mends that.
 * @param blocks where its memory is
 * @param throwIfOver throws when the round is over; then it ends
 * @returns pages that had been missed
 * @throws UmbraError E_VM_MEMORY when it cannot be read; what the store says
 */
export async function rewriteMissed(
  memory: Pick<VmMemory, 'read'>,
  blocks: readonly RamBlockInfo[],
  streamed: StreamedMemory,
  throwIfOver: () => void,
): Promise<number> {
  const [pieceOfVm, pieceOfShadow] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
  let [missed, pieces] = [0, 0];
  for (const [block, { idstr, usedLength }] of streamed.streamedBlocks.entries()) {
    const address = blocks.find((one) => one.idstr === idstr)?.address;
    for (let offset = 0; offset < usedLength; offset += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, usedLength - offset);
      const [real, known] = [pieceOfVm.subarray(0, bytes), pieceOfShadow.subarray(0, bytes)];
      readBlock(memory, idstr, address, offset, real);
      streamed.load(block, offset, known);
      if (!real.equals(known)) missed += mendPiece(streamed, block, offset, real, known);
      if (++pieces % PIECES_A_TURN !== 0) continue;
      await nextTurn();
      throwIfOver();
    }
  }
  return missed;
}

function readBlock(
  memory: Pick<VmMemory, 'read'>,
  idstr: string,
  address: bigint | undefined,
  offset: number,
  into: Uint8Array,
): void {
  try {
    if (address === undefined) throw new Error('QEMU does not tell where it is');
    memory.read(address + BigInt(offset), into);
  } catch (cause) {
    const message = `cannot compare ${idstr} with the VM’s memory: ${(cause as Error).message}`;
    throw new UmbraError({ code: 'E_VM_MEMORY', message }, cause);
  }
}

function mendPiece(
  streamed: StreamedMemory,
  block: number,
  offset: number,
  real: Buffer,
  known: Buffer,
): number {
  let missed = 0;
  for (let at = 0; at < real.length; at += PAGE_SIZE) {
    const page = real.subarray(at, at + PAGE_SIZE);
    if (page.equals(known.subarray(at, at + PAGE_SIZE))) continue;
    if (page.equals(ZEROS)) streamed.zero(block, offset + at);
    else streamed.page(block, offset + at, real, at);
    missed++;
  }
  return missed;
}
