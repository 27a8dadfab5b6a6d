/**
 * The payload of the "ram" sections, a sequence of items (migration/ram.c, ram_load_precopy):
 *
 *   be64 address | flags                 flags live in the bits below the page size
 *     MEM_SIZE       address = total RAM; the block list
 *     ZERO           [block] u8 fill                          0 from any source of this century
 *     PAGE           [block] one page
 *     XBZRLE         [block] u8 1, be16 n, n bytes            difference from the last content
 *     COMPRESS_PAGE  [block] be32 n, n bytes                  one zlib stream (sources before 9.1)
 *     EOS            end of this section
 *
 * [block] = u8 n, n bytes idstr; absent with CONTINUE, which means the block of the page item
 * before, even if that was in an earlier section.
 *
 * One object serves the whole stream: the block list and the current block outlive the sections.
 * `run` is the hot loop. It takes whole CONTINUE items straight from the chunk and leaves all else
 * to `step`, errors included.
 */
import { inflateSync } from 'node:zlib';
import { BlockList } from './block-list.ts';
import type { Configuration } from './configuration.ts';
import type { StreamCounters } from './counters.ts';
import type { StreamPosition } from './errors.ts';
import type { StreamLimits } from './limits.ts';
import type { PrecopySink } from './sink.ts';
import type { Stage } from './stage.ts';
import * as wire from './wire.ts';
import { applyXbzrle } from './xbzrle.ts';

const ITEM = 0;
const BLOCK_LENGTH = 1;
const BLOCK_NAME = 2;
const ZERO_FILL = 3;
const PAGE = 4;
const XBZRLE_HEAD = 5;
const XBZRLE_BODY = 6;
const ZLIB_LENGTH = 7;
const ZLIB_BODY = 8;
const LIST = 9;

const ZERO_CONTINUE = wire.RAM_SAVE_FLAG_ZERO | wire.RAM_SAVE_FLAG_CONTINUE;
const PAGE_CONTINUE = wire.RAM_SAVE_FLAG_PAGE | wire.RAM_SAVE_FLAG_CONTINUE;

export class RamSection implements Stage {
  readonly #sink: PrecopySink;
  readonly #location: StreamPosition;
  readonly #limits: StreamLimits;
  readonly #counters: StreamCounters;
  readonly #pageSize: number;
  readonly #flagMask: number;
  readonly #ignoreShared: boolean;
  /** Buffer in which XBZRLE pages and filled pages are built; valid for one sink call. */
  readonly #scratch: Buffer;
  #list: BlockList | undefined;
  #state = ITEM;
  #need = 8;
  /** Kind and page offset of the item at hand. */
  #kind = 0;
  #offset = 0;
  /** Current block and its length; -1 until a page item has named one. */
  #block = -1;
  #blockLength = -1;

  constructor(
    sink: PrecopySink,
    location: StreamPosition,
    limits: StreamLimits,
    counters: StreamCounters,
    configuration: Pick<Configuration, 'pageSize' | 'ignoreShared'>,
  ) {
    this.#sink = sink;
    this.#location = location;
    this.#limits = limits;
    this.#counters = counters;
    this.#pageSize = configuration.pageSize;
    this.#flagMask = configuration.pageSize - 1;
    this.#ignoreShared = configuration.ignoreShared;
    this.#scratch = Buffer.alloc(configuration.pageSize);
  }

  get need(): number {
    return this.#need;
  }

  /** Returns the size of a target page, bytes. */
  get pageSize(): number {
    return this.#pageSize;
  }

  /** Returns true once the block list was read: the sink knows the machine. */
  get hasBlocks(): boolean {
    return this.#list !== undefined && this.#state !== LIST;
  }

  /**
   * Takes as many whole CONTINUE pages and zero pages as the chunk holds from `at`.
   * @returns where it stopped: at something that `step` must look at
   */
  run(chunk: Buffer, at: number): number {
    if (this.#state !== ITEM) return at;
    const sink = this.#sink;
    const counters = this.#counters;
    const pageSize = this.#pageSize;
    const mask = this.#flagMask;
    const block = this.#block;
    const blockLength = this.#blockLength;
    const end = chunk.length;
    let pos = at;
    while (pos + 8 < end) {
      const low = chunk.readUInt32BE(pos + 4);
      const flags = low & mask;
      const offset = chunk.readUInt32BE(pos) * wire.TWO_POW_32 + low - flags;
      if (offset >= blockLength) break;
      if (flags === PAGE_CONTINUE) {
        if (pos + 8 + pageSize > end) break;
        sink.page(block, offset, chunk, pos + 8);
        counters.normalPages++;
        pos += 8 + pageSize;
      } else if (flags === ZERO_CONTINUE && chunk[pos + 8] === 0) {
        sink.zero(block, offset);
        counters.zeroPages++;
        pos += 9;
      } else {
        break;
      }
    }
    return pos;
  }

  step(bytes: Buffer, at: number): boolean {
    switch (this.#state) {
      case ITEM:
        return this.#item(bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4));
      case BLOCK_LENGTH: {
        const length = bytes.readUInt8(at);
        if (length <= this.#limits.idstrBytes) return this.#await(BLOCK_NAME, length);
        throw this.#overLimit('RAM block name', length, this.#limits.idstrBytes);
      }
      case BLOCK_NAME:
        this.#enterBlock(bytes.toString('latin1', at, at + this.#need));
        return this.#pageItem();
      case ZERO_FILL:
        this.#zero(bytes.readUInt8(at));
        return this.#await(ITEM, 8);
      case PAGE:
        this.#sink.page(this.#block, this.#offset, bytes, at);
        this.#counters.normalPages++;
        return this.#await(ITEM, 8);
      case XBZRLE_HEAD:
        return this.#xbzrleHead(bytes.readUInt8(at), bytes.readUInt16BE(at + 1));
      case XBZRLE_BODY:
        this.#xbzrle(bytes, at);
        return this.#await(ITEM, 8);
      case ZLIB_LENGTH: {
        const length = bytes.readUInt32BE(at);
        const most = compressBound(this.#pageSize);
        if (length <= most) return this.#await(ZLIB_BODY, length);
        throw this.#overLimit('zlib page', length, most);
      }
      case ZLIB_BODY:
        this.#zlib(bytes.subarray(at, at + this.#need));
        return this.#await(ITEM, 8);
      default: // LIST
        return this.#listStep(bytes, at);
    }
  }

  #item(high: number, low: number): boolean {
    const flags = low & this.#flagMask;
    const address = high * wire.TWO_POW_32 + low - flags;
    switch (flags & ~wire.RAM_SAVE_FLAG_CONTINUE) {
      case wire.RAM_SAVE_FLAG_PAGE:
      case wire.RAM_SAVE_FLAG_ZERO:
      case wire.RAM_SAVE_FLAG_XBZRLE:
      case wire.RAM_SAVE_FLAG_COMPRESS_PAGE:
        return this.#beginPage(flags, address);
      case wire.RAM_SAVE_FLAG_EOS:
        if ((flags & wire.RAM_SAVE_FLAG_CONTINUE) !== 0) break;
        if (this.#list !== undefined) return true;
        throw this.#location.error('E_STREAM_BLOCK_LIST', 'RAM START ends without a block list');
      case wire.RAM_SAVE_FLAG_MEM_SIZE:
        if ((flags & wire.RAM_SAVE_FLAG_CONTINUE) !== 0) break;
        return this.#beginList(address);
      case wire.RAM_SAVE_FLAG_HOOK:
        throw this.#location.error('E_STREAM_RDMA', 'RDMA hook in a RAM section');
      case wire.RAM_SAVE_FLAG_MULTIFD_FLUSH:
        throw this.#location.error('E_STREAM_MULTIFD', 'MULTIFD_FLUSH in a RAM section');
    }
    throw this.#location.error('E_STREAM_RAM_FLAGS', `RAM item with flags 0x${flags.toString(16)}`);
  }

  #beginList(totalBytes: number): boolean {
    if (this.#list !== undefined) {
      throw this.#location.error('E_STREAM_BLOCK_LIST', 'A second RAM block list');
    }
    this.#list = new BlockList(
      this.#location,
      this.#limits,
      this.#pageSize,
      this.#ignoreShared,
      totalBytes,
    );
    return this.#await(LIST, this.#list.need);
  }

  #listStep(bytes: Buffer, at: number): boolean {
    const list = this.#list;
    if (list === undefined) throw new Error('In the block list without one');
    if (!list.step(bytes, at)) return this.#await(LIST, list.need);
    this.#sink.blocks(list.blocks);
    return this.#await(ITEM, 8);
  }

  #beginPage(flags: number, offset: number): boolean {
    this.#kind = flags & ~wire.RAM_SAVE_FLAG_CONTINUE;
    this.#offset = offset;
    if ((flags & wire.RAM_SAVE_FLAG_CONTINUE) === 0) return this.#await(BLOCK_LENGTH, 1);
    if (this.#block >= 0) return this.#pageItem();
    throw this.#location.error('E_STREAM_CONTINUE', 'The first page names no block');
  }

  #enterBlock(idstr: string): void {
    const index = this.#list?.indexOf(idstr) ?? -1;
    const block = this.#list?.blocks[index];
    if (block === undefined) {
      throw this.#location.error('E_STREAM_BLOCK', `Page of the unknown RAM block "${idstr}"`);
    }
    this.#block = index;
    this.#blockLength = block.usedLength;
  }

  /** Reads the content of a page item, whose block is known. */
  #pageItem(): boolean {
    if (this.#offset >= this.#blockLength) {
      const name = this.#list?.blocks[this.#block]?.idstr;
      const detail = `Page at ${this.#offset} of block "${name}" of ${this.#blockLength} bytes`;
      throw this.#location.error('E_STREAM_OFFSET', detail);
    }
    switch (this.#kind) {
      case wire.RAM_SAVE_FLAG_ZERO:
        return this.#await(ZERO_FILL, 1);
      case wire.RAM_SAVE_FLAG_PAGE:
        return this.#await(PAGE, this.#pageSize);
      case wire.RAM_SAVE_FLAG_XBZRLE:
        return this.#await(XBZRLE_HEAD, 3);
      default:
        return this.#await(ZLIB_LENGTH, 4);
    }
  }

  #zero(fill: number): void {
    this.#counters.zeroPages++;
    if (fill === 0) {
      this.#sink.zero(this.#block, this.#offset);
    } else {
      this.#sink.page(this.#block, this.#offset, this.#scratch.fill(fill), 0);
    }
  }

  #xbzrleHead(encoding: number, length: number): boolean {
    if (encoding !== wire.ENCODING_FLAG_XBZRLE) {
      throw this.#location.error('E_STREAM_XBZRLE', `Unknown page encoding ${encoding}`);
    }
    if (length <= this.#pageSize) return this.#await(XBZRLE_BODY, length);
    throw this.#location.error(
      'E_STREAM_XBZRLE',
      `${length} bytes for a page of ${this.#pageSize}`,
    );
  }

  #xbzrle(bytes: Buffer, at: number): void {
    this.#sink.load(this.#block, this.#offset, this.#scratch);
    const wrong = applyXbzrle(bytes, at, this.#need, this.#scratch);
    if (wrong !== '') throw this.#location.error('E_STREAM_XBZRLE', `XBZRLE: ${wrong}`);
    this.#sink.page(this.#block, this.#offset, this.#scratch, 0);
    this.#counters.xbzrlePages++;
  }

  #zlib(deflated: Buffer): void {
    let page: Buffer;
    let taken: number;
    try {
      const options = { maxOutputLength: this.#pageSize, chunkSize: this.#pageSize, info: true };
      ({ page, taken } = inflated(inflateSync(deflated, options)));
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.#location.error('E_STREAM_COMPRESSED', `zlib: ${why}`);
    }
    if (taken !== deflated.length) {
      const detail = `zlib: ${deflated.length - taken} more bytes behind the page`;
      throw this.#location.error('E_STREAM_COMPRESSED', detail);
    }
    if (page.length !== this.#pageSize) {
      const detail = `zlib: ${page.length} bytes instead of a page of ${this.#pageSize}`;
      throw this.#location.error('E_STREAM_COMPRESSED', detail);
    }
    this.#sink.page(this.#block, this.#offset, page, 0);
    this.#counters.compressedPages++;
  }

  #await(state: number, need: number): false {
    this.#state = state;
    this.#need = need;
    return false;
  }

  #overLimit(what: string, length: number, most: number): Error {
    return this.#location.error('E_STREAM_LIMIT', `${what} of ${length} bytes, limit ${most}`);
  }
}

/** Types the result of inflateSync with `info`, which its own types leave out. */
function inflated(result: unknown): { page: Buffer; taken: number } {
  const { buffer, engine } = result as { buffer: Buffer; engine: { bytesWritten: number } };
  return { page: buffer, taken: engine.bytesWritten };
}

/** Returns the most bytes zlib may need for `bytes` bytes: its compressBound, QEMU's check too. */
function compressBound(bytes: number): number {
  return bytes + (bytes >> 12) + (bytes >> 14) + (bytes >> 25) + 13;
}
