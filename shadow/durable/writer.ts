/**
 * Writes one file of a shadow as a container (container.ts). Reading, compressing and writing
 * overlap by a few batches; each batch's content is read once.
 *
 *     NAME.PID.part   process PID is writing it; means nothing, removed at the next attempt
 *     NAME            whole: it was synced before it got its name
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { compress } from 'lz4-napi';
import { alignedBuffer } from '../aligned-buffer.ts';
import { ShadowError } from '../errors.ts';
import {
  BATCH_BYTES,
  type BatchHeader,
  chainOf,
  EXTENTS_MAX,
  type Extent,
  encodeBatchHeader,
  encodeExtents,
  encodeFooter,
  encodeHeader,
  FOOTER_BYTES,
  type Footer,
  METHOD_LZ4,
  METHOD_RAW,
} from './container.ts';
import { dataRuns } from './data-runs.ts';
import { onDisk, writeAll } from './disk.ts';
import type { Pace } from './pace.ts';
import type { OnStep } from './steps.ts';

/** Batches in work at once: one read, one compressed, one written. */
const WINDOW = 3;
/**
 * Bytes after which dirty pages are brought to the device: the job's own writes must not wait for a
 * whole file.
 */
const SYNC_EVERY_BYTES = 32 * 2 ** 20;

export const PART = '.part';

export interface WriteOptions {
  readonly pace: Pace;
  readonly onStep: OnStep;
  /** Called when content has been written, bytes. */
  readonly onContent: (bytes: number) => void;
}

interface Encoded {
  readonly header: BatchHeader;
  readonly parts: readonly Buffer[];
}

/**
 * Writes a container.
 * @param source file that no process may write to while it is read
 * @throws ShadowError E_EPOCH_CORRUPT (the source), E_DURABLE_NO_ROOM, E_DURABLE_IO
 */
export async function writeContainer(
  source: string,
  target: string,
  key: Buffer,
  options: WriteOptions,
): Promise<Footer> {
  const fd = openSource(source);
  try {
    // The pid keeps a process that lingers from renaming a draft that another is writing.
    const draft = `${target}.${process.pid}${PART}`;
    return await onDisk('write', draft, async () => {
      const handle = await open(draft, 'w', 0o600);
      let footer: Footer;
      try {
        footer = await fill(handle, fd, source, key, options);
        await handle.datasync();
        options.onStep('file/synced');
      } finally {
        await handle.close();
      }
      await rename(draft, target);
      options.onStep('file/named');
      return footer;
    });
  } finally {
    closeSync(fd);
  }
}

async function fill(
  handle: FileHandle,
  fd: number,
  source: string,
  key: Buffer,
  { pace, onStep, onContent }: WriteOptions,
): Promise<Footer> {
  const fileBytes = fstatSync(fd).size;
  const header = encodeHeader(fileBytes, key);
  await writeAll(handle, [header]);
  onStep('file/opened');
  let containerBytes = header.length;
  let contentBytes = 0;
  let unsynced = 0;
  let chain = 0;
  let index = 0;
  const underWay: Promise<Encoded>[] = [];
  const writeFirst = async () => {
    const { header: batch, parts } = (await underWay.shift()) as Encoded;
    await writeAll(handle, parts);
    chain = chainOf(parts[0] as Buffer, chain);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    containerBytes += bytes;
    contentBytes += batch.contentBytes;
    unsynced += bytes;
    if (unsynced >= SYNC_EVERY_BYTES) {
      unsynced = 0;
      await handle.datasync();
    }
    onStep('file/batch');
    onContent(batch.contentBytes);
    await pace.spend(batch.contentBytes);
  };
  try {
    for (const extents of batchesOf(dataRuns(fd, source, fileBytes, BATCH_BYTES))) {
      const encoded = encodeBatch(index++, extents, readExtents(fd, source, extents));
      encoded.catch(() => {}); // it is awaited in its turn
      underWay.push(encoded);
      if (underWay.length >= WINDOW) await writeFirst();
    }
    while (underWay.length > 0) await writeFirst();
  } finally {
    await Promise.allSettled(underWay);
  }
  containerBytes += FOOTER_BYTES;
  const footer = { batches: index, contentBytes, containerBytes, chain };
  await writeAll(handle, [encodeFooter(footer)]);
  onStep('file/written');
  return footer;
}

/** Gathers runs of content into batches; a run that does not fit is split. */
export function* batchesOf(runs: Iterable<Extent>): Generator<Extent[]> {
  let batch: Extent[] = [];
  let room = BATCH_BYTES;
  for (let { offset, bytes } of runs) {
    while (bytes > 0) {
      const taken = Math.min(bytes, room);
      batch.push({ offset, bytes: taken });
      offset += taken;
      bytes -= taken;
      room -= taken;
      if (room > 0 && batch.length < EXTENTS_MAX) continue;
      yield batch;
      batch = [];
      room = BATCH_BYTES;
    }
  }
  if (batch.length > 0) yield batch;
}

function readExtents(fd: number, path: string, extents: readonly Extent[]): Buffer {
  const content = alignedBuffer(extents.reduce((sum, { bytes }) => sum + bytes, 0));
  let at = 0;
  for (const { offset, bytes } of extents) {
    // Synchronous: it reads memory, a page at a time, and a thread's round trip costs ten reads.
    const count = readSync(fd, content, at, bytes, offset);
    if (count !== bytes) {
      throw new ShadowError('E_EPOCH_CORRUPT', `${path} ends at byte ${offset + count}`, { path });
    }
    at += bytes;
  }
  return content;
}

async function encodeBatch(
  index: number,
  extents: readonly Extent[],
  content: Buffer,
): Promise<Encoded> {
  const packed = await compress(content);
  const shrank = packed.length < content.length;
  const stored = shrank ? packed : content;
  const table = encodeExtents(extents);
  const header: BatchHeader = {
    index,
    extents: extents.length,
    method: shrank ? METHOD_LZ4 : METHOD_RAW,
    contentBytes: content.length,
    storedBytes: stored.length,
    contentCrc: crc32(content),
    storedCrc: crc32(stored, crc32(table)),
  };
  return { header, parts: [encodeBatchHeader(header), table, stored] };
}

function openSource(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  }
}
