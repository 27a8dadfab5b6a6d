/**
 * The list of RAM blocks, which follows a MEM_SIZE item in RAM START (migration/ram.c,
 * ram_save_setup and parse_ramblocks). Repeats until the lengths add up to the item's total:
 *
 *   u8 n | n bytes idstr | be64 used_length | [be64 mr_addr]          mr_addr: x-ignore-shared
 *
 * The list does not describe itself: postcopy and mapped-ram put more fields in. Both announce
 * themselves earlier in the stream, and are refused there.
 */
import type { StreamPosition } from './errors.ts';
import type { StreamLimits } from './limits.ts';
import type { RamBlock } from './sink.ts';
import type { Stage } from './stage.ts';
import { TWO_POW_32 } from './wire.ts';

const NAME_LENGTH = 0;
const BLOCK = 1;

export class BlockList implements Stage {
  readonly blocks: RamBlock[] = [];
  readonly #indices = new Map<string, number>();
  readonly #location: StreamPosition;
  readonly #limits: StreamLimits;
  readonly #pageSize: number;
  readonly #ignoreShared: boolean;
  #bytesLeft: number;
  #state = NAME_LENGTH;
  #need = 1;

  /** @param totalBytes from the MEM_SIZE item: the sum of all lengths */
  constructor(
    location: StreamPosition,
    limits: StreamLimits,
    pageSize: number,
    ignoreShared: boolean,
    totalBytes: number,
  ) {
    if (totalBytes > limits.ramBytes) {
      const detail = `${totalBytes} bytes of RAM, limit ramBytes ${limits.ramBytes}`;
      throw location.error('E_STREAM_LIMIT', detail);
    }
    if (totalBytes === 0) throw location.error('E_STREAM_BLOCK_LIST', 'The machine has no RAM');
    this.#location = location;
    this.#limits = limits;
    this.#pageSize = pageSize;
    this.#ignoreShared = ignoreShared;
    this.#bytesLeft = totalBytes;
  }

  get need(): number {
    return this.#need;
  }

  /** Returns the index of a block, or -1. */
  indexOf(idstr: string): number {
    return this.#indices.get(idstr) ?? -1;
  }

  step(bytes: Buffer, at: number): boolean {
    if (this.#state === NAME_LENGTH) {
      const length = bytes.readUInt8(at);
      if (length > this.#limits.idstrBytes) {
        const detail = `RAM block name of ${length} bytes, limit ${this.#limits.idstrBytes}`;
        throw this.#location.error('E_STREAM_LIMIT', detail);
      }
      this.#state = BLOCK;
      this.#need = length + 8 + (this.#ignoreShared ? 8 : 0);
      return false;
    }
    const nameEnd = at + this.#need - 8 - (this.#ignoreShared ? 8 : 0);
    const idstr = bytes.toString('latin1', at, nameEnd);
    this.#add(
      idstr,
      readBe64(bytes, nameEnd),
      this.#ignoreShared ? readBe64(bytes, nameEnd + 8) : undefined,
    );
    this.#state = NAME_LENGTH;
    this.#need = 1;
    return this.#bytesLeft === 0;
  }

  #add(idstr: string, usedLength: number, guestAddress: number | undefined): void {
    if (this.blocks.length === this.#limits.blockCount) {
      const detail = `More than ${this.#limits.blockCount} RAM blocks (limit blockCount)`;
      throw this.#location.error('E_STREAM_LIMIT', detail);
    }
    // QEMU never makes an empty block and aligns all to the page: anything else is corruption.
    if (usedLength === 0 || usedLength % this.#pageSize !== 0) {
      throw this.#refuse(`Block "${idstr}" has a length of ${usedLength} bytes`);
    }
    if (usedLength > this.#bytesLeft) {
      const detail = `Block "${idstr}" has ${usedLength} bytes, ${this.#bytesLeft} are left`;
      throw this.#refuse(`${detail} of the total`);
    }
    if (this.#indices.has(idstr)) throw this.#refuse(`Block "${idstr}" comes twice`);
    this.#bytesLeft -= usedLength;
    this.#indices.set(idstr, this.blocks.length);
    const block = { idstr, usedLength, pageSize: this.#pageSize };
    this.blocks.push(guestAddress === undefined ? block : { ...block, guestAddress });
  }

  #refuse(detail: string): Error {
    return this.#location.error('E_STREAM_BLOCK_LIST', detail);
  }
}

/** Reads a be64 as a number; inexact above 2^53, where every caller's check fails anyway. */
function readBe64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * TWO_POW_32 + bytes.readUInt32BE(at + 4);
}
