/**
 * Reads the build-id of a program: a digest that its linker has left in it (ld(1), --build-id). Two
 * packages of one version have different ones.
 *
 *     ELF header ─▶ program headers ─▶ those of type PT_NOTE ─▶ their notes: the GNU build-id
 *
 *     note   name length 4 │ content length 4 │ type 4 │ name, padded to 4 │ content, padded to 4
 *
 * Source: elf(5). Only what Linux runs QEMU as is read: 64-bit, least significant byte first.
 */
import { closeSync, openSync, readSync } from 'node:fs';

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAGIC = Buffer.from('\x7fELF\x02\x01', 'latin1');
const PT_NOTE = 4;
const NT_GNU_BUILD_ID = 3;
const GNU = Buffer.from('GNU\0');
/** Bounds of what a file may make this program read. */
const HEADERS_MAX = 128;
const NOTES_BYTES_MAX = 65_536;
const BUILD_ID_BYTES_MAX = 64;

/** Returns a program's build-id, hexadecimal; undefined if it has none, or cannot be read. */
export function buildIdOf(path: string): string | undefined {
  try {
    const fd = openSync(path, 'r');
    try {
      return readBuildId(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

function readBuildId(fd: number): string | undefined {
  const header = readAt(fd, 0, HEADER_BYTES);
  if (header.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) return undefined;
  const start = Number(header.readBigUInt64LE(32));
  const count = Math.min(header.readUInt16LE(56), HEADERS_MAX);
  for (let at = 0; at < count; at++) {
    const entry = readAt(fd, start + at * PROGRAM_HEADER_BYTES, PROGRAM_HEADER_BYTES);
    if (entry.readUInt32LE(0) !== PT_NOTE) continue;
    const offset = Number(entry.readBigUInt64LE(8));
    const bytes = Math.min(Number(entry.readBigUInt64LE(32)), NOTES_BYTES_MAX);
    const found = buildIdIn(readAt(fd, offset, bytes));
    if (found !== undefined) return found;
  }
  return undefined;
}

function buildIdIn(notes: Buffer): string | undefined {
  for (let at = 0; at + 12 <= notes.length; ) {
    const [nameBytes, bytes] = [notes.readUInt32LE(at), notes.readUInt32LE(at + 4)];
    const name = at + 12;
    const content = name + padded(nameBytes);
    if (notes.readUInt32LE(at + 8) === NT_GNU_BUILD_ID && bytes <= BUILD_ID_BYTES_MAX) {
      const id = notes.subarray(content, content + bytes);
      if (notes.subarray(name, name + nameBytes).equals(GNU)) return id.toString('hex');
    }
    at = content + padded(bytes);
  }
  return undefined;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function readAt(fd: number, position: number, bytes: number): Buffer {
  const into = Buffer.alloc(bytes);
  const got = readSync(fd, into, 0, bytes, position);
  if (got !== bytes) throw new Error('the file ends before');
  return into;
}
