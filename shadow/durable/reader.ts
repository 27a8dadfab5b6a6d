/**
 * Reads a container and gives its content to a sink, every byte of it checked before. Every length
 * is checked against a limit before memory is allocated by it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { uncompress } from 'lz4-napi';
import { ShadowError } from '../errors.ts';
import { CONTAINER_FORMAT, isReadable, requireVersion } from '../format-version.ts';
import {
  BATCH_HEADER_BYTES,
  chainOf,
  decodeBatchHeader,
  decodeExtents,
  decodeFooter,
  decodeHeader,
  EXTENT_BYTES,
  type Extent,
  FOOTER_BYTES,
  FOOTER_MAGIC,
  type Footer,
  HEADER_BYTES,
  METHOD_LZ4,
} from './container.ts';
import { diskError } from './disk.ts';

/** Batches under way at once, decompressed on other threads. */
const WINDOW = 3;

export interface ContentSink {
  /** Takes the length of the file, holes included. Called first. */
  length(bytes: number): void;
  write(content: Buffer, at: number, extent: Extent): void;
  /** Called when the content of a batch has been given. */
  onContent?(bytes: number): void;
}

/**
 * Reads a container.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION, E_DURABLE_IO; errors of the sink
 */
export async function readContainer(path: string, key: Buffer, sink: ContentSink): Promise<Footer> {
  const handle = await openContainer(path);
  try {
    return await new ContainerReader(path, handle).read(key, sink);
  } finally {
    await handle.close();
  }
}

/**
 * Checks both ends of a container, and nothing between.
 * @returns its footer; undefined if it is not whole, another file's, or of a version that is not
 * read
 * @throws ShadowError E_DURABLE_IO
 */
export async function peekContainer(path: string, key: Buffer): Promise<Footer | undefined> {
  let handle: FileHandle;
  try {
    handle = await openContainer(path);
  } catch (error) {
    if (error instanceof ShadowError && error.code === 'E_EPOCH_CORRUPT') return undefined;
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size < HEADER_BYTES + FOOTER_BYTES) return undefined;
    const reader = new ContainerReader(path, handle);
    const header = decodeHeader(await reader.piece(0, HEADER_BYTES));
    const footer = decodeFooter(await reader.piece(size - FOOTER_BYTES, FOOTER_BYTES));
    if (header === undefined || !isReadable(CONTAINER_FORMAT, header.version)) return undefined;
    return header.key.equals(key) && footer?.containerBytes === size ? footer : undefined;
  } finally {
    await handle.close();
  }
}

class ContainerReader {
  readonly #path: string;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  async read(key: Buffer, sink: ContentSink): Promise<Footer> {
    const fileBytes = await this.#header(key);
    sink.length(fileBytes);
    let at = HEADER_BYTES;
    let end = 0;
    let contentBytes = 0;
    let chain = 0;
    const underWay: Promise<void>[] = [];
    try {
      for (let index = 0; ; index++) {
        const head = await this.piece(at, 4);
        if (head.readUInt32LE() === FOOTER_MAGIC) {
          await Promise.all(underWay);
          return await this.#footer(at, { batches: index, contentBytes, chain });
        }
        const header = await this.piece(at, BATCH_HEADER_BYTES);
        const batch = decodeBatchHeader(header);
        if (batch === undefined || batch.index !== index) throw this.#damage(at, 'batch header');
        const tableBytes = batch.extents * EXTENT_BYTES;
        const body = await this.piece(at + BATCH_HEADER_BYTES, tableBytes + batch.storedBytes);
        if (crc32(body) !== batch.storedCrc) throw this.#damage(at, 'batch');
        const table = body.subarray(0, tableBytes);
        const extents = decodeExtents(table, end, fileBytes, batch.contentBytes);
        if (extents === undefined) throw this.#damage(at, 'table of extents');
        const last = extents.at(-1);
        end = last === undefined ? end : last.offset + last.bytes;
        contentBytes += batch.contentBytes;
        chain = chainOf(header, chain);
        const stored = body.subarray(tableBytes);
        const given = this.#give(at, stored, batch, extents, sink);
        given.catch(() => {}); // it is awaited in its turn
        underWay.push(given);
        if (underWay.length >= WINDOW) await underWay.shift();
        at += BATCH_HEADER_BYTES + body.length;
      }
    } finally {
      await Promise.allSettled(underWay);
    }
  }

  /** Reads exactly so many bytes. @throws ShadowError E_EPOCH_CORRUPT, E_DURABLE_IO */
  async piece(at: number, bytes: number): Promise<Buffer> {
    const piece = Buffer.allocUnsafe(bytes);
    let filled = 0;
    while (filled < bytes) {
      const { bytesRead } = await this.#handle
        .read(piece, filled, bytes - filled, at + filled)
        .catch((cause: unknown) => {
          throw diskError('read', this.#path, cause);
        });
      if (bytesRead === 0) throw this.#damage(at + filled, 'end: it was cut');
      filled += bytesRead;
    }
    return piece;
  }

  async #header(key: Buffer): Promise<number> {
    const header = decodeHeader(await this.piece(0, HEADER_BYTES));
    if (header === undefined) throw this.#damage(0, 'header');
    requireVersion(CONTAINER_FORMAT, header.version, this.#path);
    if (!header.key.equals(key)) throw this.#damage(0, 'header: it is another file’s');
    return header.fileBytes;
  }

  async #footer(at: number, read: Omit<Footer, 'containerBytes'>): Promise<Footer> {
    const footer = decodeFooter(await this.piece(at, FOOTER_BYTES));
    const containerBytes = at + FOOTER_BYTES;
    const { size } = await this.#handle.stat();
    const agree =
      footer?.batches === read.batches &&
      footer.contentBytes === read.contentBytes &&
      footer.chain === read.chain &&
      footer.containerBytes === containerBytes &&
      size === containerBytes;
    if (!agree) throw this.#damage(at, 'footer');
    return footer;
  }

  async #give(
    at: number,
    stored: Buffer,
    batch: { method: number; contentBytes: number; contentCrc: number },
    extents: readonly Extent[],
    sink: ContentSink,
  ): Promise<void> {
    const content = batch.method === METHOD_LZ4 ? await this.#unpack(at, stored, batch) : stored;
    if (crc32(content) !== batch.contentCrc) throw this.#damage(at, 'content');
    let from = 0;
    for (const extent of extents) {
      sink.write(content, from, extent);
      from += extent.bytes;
    }
    sink.onContent?.(content.length);
  }

  /**
   * Decompresses a batch. lz4-napi allocates the length before the block: that is checked first.
   */
  async #unpack(at: number, stored: Buffer, batch: { contentBytes: number }): Promise<Buffer> {
    const announced = stored.length < 4 ? -1 : stored.readUInt32LE();
    if (announced !== batch.contentBytes) throw this.#damage(at, 'compressed length');
    const content = await uncompress(stored).catch((cause: unknown) => {
      throw this.#damage(at, 'compressed content', cause);
    });
    if (content.length !== batch.contentBytes) throw this.#damage(at, 'compressed content');
    return content;
  }

  #damage(at: number, what: string, cause?: unknown): ShadowError {
    const message = `${this.#path} is damaged at byte ${at}: ${what}`;
    return new ShadowError('E_EPOCH_CORRUPT', message, { path: this.#path, cause });
  }
}

async function openContainer(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw diskError('open', path, cause);
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} is missing`, { path, cause });
  }
}
