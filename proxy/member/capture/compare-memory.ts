/**
 * Compares the memory of an emulated VM with its shadow while the VM is stopped, and writes again
 * what differs (why it may: precopy-support.ts).
 *
 *     stream whole, QEMU waits for our vote ──▶ /proc/PID/mem ─┐
 *                                               shadow ────────┴▶ the same, or taken from memory
 *                                                                       └──▶ vote
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { alignedBuffer } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import type { ProcessMemory } from '../../host/process-memory.ts';
import type { StreamedMemory } from '../../intake/shadow-sink.ts';
import type { RamBlockInfo } from '../qemu/memory.ts';

const PIECE_BYTES = 2 ** 20;
/** Pieces between two turns of the event loop: some ten milliseconds. */
const PIECES_A_TURN = 16;
const ZEROS = Buffer.alloc(PAGE_BYTES);

/**
 * Compares the memory of a stopped VM with what it has streamed, and corrects the latter.
 * @param blocks where the VM's memory is
 * @param throwIfOver throws when the round is over, which ends the comparison
 * @returns the number of pages that QEMU had missed
 * @throws UmbraError E_VM_MEMORY when the memory cannot be read; ShadowError
 */
export async function rewriteMissed(
  memory: Pick<ProcessMemory, 'read'>,
  blocks: readonly RamBlockInfo[],
  streamed: StreamedMemory,
  throwIfOver: () => void,
): Promise<number> {
  const [pieceOfVm, pieceOfShadow] = [alignedBuffer(PIECE_BYTES), alignedBuffer(PIECE_BYTES)];
  let [missed, pieces] = [0, 0];
  for (const [block, { idstr, usedLength }] of streamed.streamedBlocks.entries()) {
    const address = blocks.find((one) => one.idstr === idstr)?.address;
    for (let offset = 0; offset < usedLength; offset += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, usedLength - offset);
      const [real, known] = [pieceOfVm.subarray(0, bytes), pieceOfShadow.subarray(0, bytes)];
      readBlock(memory, idstr, address, offset, real);
      streamed.load(block, offset, known);
      if (!real.equals(known)) missed += repairPiece(streamed, block, offset, real, known);
      if (++pieces % PIECES_A_TURN !== 0) continue;
      await nextTurn();
      throwIfOver();
    }
  }
  return missed;
}

function readBlock(
  memory: Pick<ProcessMemory, 'read'>,
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

function repairPiece(
  streamed: StreamedMemory,
  block: number,
  offset: number,
  real: Buffer,
  known: Buffer,
): number {
  let missed = 0;
  for (let at = 0; at < real.length; at += PAGE_BYTES) {
    const page = real.subarray(at, at + PAGE_BYTES);
    if (page.equals(known.subarray(at, at + PAGE_BYTES))) continue;
    if (page.equals(ZEROS)) streamed.zero(block, offset + at);
    else streamed.page(block, offset + at, real, at);
    missed++;
  }
  return missed;
}
