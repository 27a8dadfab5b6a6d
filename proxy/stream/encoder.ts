/**
 * Makes a stream that QEMU loads (`-incoming`) from a shadow's pages and device state:
 *
 *   "QEVM" be32 3 | CONFIGURATION
 *   01 START ram   block list, EOS, footer
 *   02 PART ram    pages, EOS, footer           one PART, however many pages
 *   03 END ram     EOS, footer
 *   FULL … EOF     the device state, verbatim
 *   [06 VMDESC]
 *
 * Without commands: a destination that was not told to open a return path sends nothing back.
 */
import type { RamBlock } from './sink.ts';
import * as wire from './wire.ts';

export interface PageSource {
  readonly blocks: readonly RamBlock[];
  /** Copies the page to `into[at..]`; returns false, having copied or not, if it is all zero. */
  read(block: number, offset: number, into: Uint8Array, at: number): boolean;
}

export interface EncodeOptions {
  /** Configuration as the decoder gave it; empty if the source sent none. */
  readonly configuration: Uint8Array;
  readonly deviceState: Uint8Array;
  /** QEMU loads a stream without, and logs that it expected one. */
  readonly vmdesc?: string | undefined;
  /** Blocks (by index) that are listed without any page: their memory is already in place. */
  readonly omit?: ReadonlySet<number>;
  /** Offsets of the pages to send, for blocks (by index) whose other pages are in place. */
  readonly only?: ReadonlyMap<number, readonly number[]>;
  /** Size of a yielded chunk, bytes; at least two pages. */
  readonly chunkBytes?: number;
}

const CHUNK_BYTES = 512 * 1024;

/**
 * Not 0: the destination finds a PART's handler by id, and a handler that has loaded nothing yet
 * has id 0 (migration/savevm.c, qemu_loadvm_section_part_end).
 */
const RAM_SECTION_ID = 2;

/** Item address, block name with its length, fill byte: more than any head takes. */
const HEAD_BYTES_MAX = 8 + 256 + 1;

const PAGE = wire.RAM_SAVE_FLAG_PAGE;
const ZERO = wire.RAM_SAVE_FLAG_ZERO;
const CONTINUE = wire.RAM_SAVE_FLAG_CONTINUE;

/**
 * Yields the stream in chunks. A chunk belongs to the consumer: it is never written again, so it
 * can be handed to a socket without waiting. Pages are read when their chunk is asked for.
 * @throws RangeError before the first chunk if the blocks or the device state cannot be right
 */
export function* encodePrecopy(source: PageSource, options: EncodeOptions): Generator<Uint8Array> {
  verify(source.blocks, options);
  yield opening(source.blocks, options.configuration);
  yield* pages(source, options);
  yield closing();
  yield options.deviceState;
  if (options.vmdesc !== undefined) yield description(options.vmdesc);
}

function verify(blocks: readonly RamBlock[], options: EncodeOptions): void {
  const names = new Set<string>();
  const listsAddresses = blocks[0]?.guestAddress !== undefined;
  if (blocks.length === 0) throw new RangeError('No RAM block');
  for (const { idstr, usedLength, pageSize, guestAddress } of blocks) {
    if (names.has(idstr)) throw new RangeError(`RAM block "${idstr}" comes twice`);
    names.add(idstr);
    if (idstr.length > 255) throw new RangeError(`RAM block name "${idstr}" is over 255 bytes`);
    if (pageSize !== blocks[0]?.pageSize) throw new RangeError('Page sizes differ');
    if (!(usedLength > 0) || usedLength % pageSize !== 0) {
      throw new RangeError(`RAM block "${idstr}" has a length of ${usedLength} bytes`);
    }
    if ((guestAddress !== undefined) !== listsAddresses) {
      throw new RangeError('Either all RAM blocks have a guest address (x-ignore-shared) or none');
    }
  }
  const { deviceState } = options;
  const first = deviceState[0];
  const begins = first === wire.QEMU_VM_SECTION_FULL || first === wire.QEMU_VM_EOF;
  if (!begins || deviceState[deviceState.length - 1] !== wire.QEMU_VM_EOF) {
    throw new RangeError('The device state must begin with a FULL section and end with EOF');
  }
}

/** Encodes header, CONFIGURATION and RAM START. */
function opening(blocks: readonly RamBlock[], configuration: Uint8Array): Uint8Array {
  const writer = new Writer(8 + configuration.length + 32 + blocks.length * (8 + 256 + 8));
  writer.u32(wire.QEMU_VM_FILE_MAGIC);
  writer.u32(wire.QEMU_VM_FILE_VERSION);
  writer.copy(configuration);
  writer.u8(wire.QEMU_VM_SECTION_START);
  writer.u32(RAM_SECTION_ID);
  writer.name('ram');
  writer.u32(0);
  writer.u32(wire.RAM_SECTION_VERSION);
  const total = blocks.reduce((sum, block) => sum + block.usedLength, 0);
  writer.u64(total, wire.RAM_SAVE_FLAG_MEM_SIZE);
  for (const { idstr, usedLength, guestAddress } of blocks) {
    writer.name(idstr);
    writer.u64(usedLength, 0);
    if (guestAddress !== undefined) writer.u64(guestAddress, 0);
  }
  writer.endSection();
  return writer.take();
}

function* pages(source: PageSource, options: EncodeOptions): Generator<Uint8Array> {
  const { blocks } = source;
  const pageSize = blocks[0]?.pageSize ?? wire.LEGACY_PAGE_SIZE;
  const room = HEAD_BYTES_MAX + pageSize;
  const capacity = Math.max(options.chunkBytes ?? CHUNK_BYTES, 2 * room);
  let writer = new Writer(capacity);
  writer.u8(wire.QEMU_VM_SECTION_PART);
  writer.u32(RAM_SECTION_ID);
  for (const [index, block] of blocks.entries()) {
    if (options.omit?.has(index)) continue;
    let named = false;
    const only = options.only?.get(index);
    const count = only?.length ?? block.usedLength / pageSize;
    for (let page = 0; page < count; page++) {
      const offset = only?.[page] ?? page * pageSize;
      if (writer.left < room) {
        yield writer.take();
        writer = new Writer(capacity);
      }
      // The page goes where it will stand, so that it is copied once; its head comes after.
      const at = writer.length + (named ? 8 : 9 + block.idstr.length);
      const isZero = !source.read(index, offset, writer.bytes, at);
      writer.u64(offset, (isZero ? ZERO : PAGE) | (named ? CONTINUE : 0));
      if (!named) writer.name(block.idstr);
      if (isZero) writer.u8(0);
      else writer.skip(pageSize);
      named = true;
    }
  }
  if (writer.left < room) {
    yield writer.take();
    writer = new Writer(capacity);
  }
  writer.endSection();
  yield writer.take();
}

/** Encodes RAM END. */
function closing(): Uint8Array {
  const writer = new Writer(32);
  writer.u8(wire.QEMU_VM_SECTION_END);
  writer.u32(RAM_SECTION_ID);
  writer.endSection();
  return writer.take();
}

function description(vmdesc: string): Uint8Array {
  const text = Buffer.from(vmdesc, 'utf8');
  const writer = new Writer(5 + text.length);
  writer.u8(wire.QEMU_VM_VMDESCRIPTION);
  writer.u32(text.length);
  writer.copy(text);
  return writer.take();
}

/** One chunk being filled. The caller sees to it that what it writes fits. */
class Writer {
  readonly bytes: Buffer;
  #length = 0;

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  get length(): number {
    return this.#length;
  }

  get left(): number {
    return this.bytes.length - this.#length;
  }

  u8(value: number): void {
    this.#length = this.bytes.writeUInt8(value, this.#length);
  }

  u32(value: number): void {
    this.#length = this.bytes.writeUInt32BE(value, this.#length);
  }

  /** Writes a page-aligned address with flags in its low bits. */
  u64(address: number, flags: number): void {
    this.u32(Math.floor(address / wire.TWO_POW_32));
    this.u32(((address % wire.TWO_POW_32) | flags) >>> 0);
  }

  /** Writes a name in Latin-1, as it was read: its bytes stay the same. */
  name(text: string): void {
    this.u8(text.length);
    this.#length += this.bytes.write(text, this.#length, 'latin1');
  }

  copy(from: Uint8Array): void {
    this.bytes.set(from, this.#length);
    this.#length += from.length;
  }

  skip(count: number): void {
    this.#length += count;
  }

  endSection(): void {
    this.u64(0, wire.RAM_SAVE_FLAG_EOS);
    this.u8(wire.QEMU_VM_SECTION_FOOTER);
    this.u32(RAM_SECTION_ID);
  }

  /** Returns the chunk; nothing may be written after. */
  take(): Uint8Array {
    return this.bytes.subarray(0, this.#length);
  }
}
