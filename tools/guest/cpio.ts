/**
 * Writes the "newc" archive that Linux unpacks as its first root file system.
 *
 *   entry:  "070701" | 13 fields of 8 hex digits | name NUL, padded to 4 | contents, padded to 4
 *
 * Every entry has owner root and time 0: equal trees give equal archives, and making one needs no
 * root.
 */

/** A file, folder, link or device of the archive; paths are relative. */
export type CpioEntry =
  | { readonly type: 'folder'; readonly path: string }
  | { readonly type: 'link'; readonly path: string; readonly target: string }
  | {
      readonly type: 'device';
      readonly path: string;
      readonly major: number;
      readonly minor: number;
    }
  | {
      readonly type: 'file';
      readonly path: string;
      readonly contents: Uint8Array;
      readonly executable: boolean;
    };

const MODES = { folder: 0o040755, link: 0o120777, device: 0o020600 } as const;

/** Returns the archive; folders above each entry are added where they are not given. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    if (byPath.has(entry.path)) throw new Error(`two entries for ${entry.path}`);
    byPath.set(entry.path, entry);
  }
  for (const { path } of entries) {
    for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
      const folder = path.slice(0, at);
      if (!byPath.has(folder)) byPath.set(folder, { type: 'folder', path: folder });
    }
  }
  // Sorted by code unit: a folder comes before what is in it.
  const sorted = [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  const parts = sorted.flatMap((entry, i) => encodeEntry(entry, i + 1));
  return Buffer.concat([...parts, ...encodeRecord('TRAILER!!!', 0, 0, new Uint8Array(0))]);
}

function encodeEntry(entry: CpioEntry, inode: number): Uint8Array[] {
  switch (entry.type) {
    case 'file': {
      const mode = entry.executable ? 0o100755 : 0o100644;
      return encodeRecord(entry.path, inode, mode, entry.contents);
    }
    case 'link':
      return encodeRecord(entry.path, inode, MODES.link, Buffer.from(entry.target));
    case 'folder':
      return encodeRecord(entry.path, inode, MODES.folder, new Uint8Array(0));
    case 'device': {
      const device = { major: entry.major, minor: entry.minor };
      return encodeRecord(entry.path, inode, MODES.device, new Uint8Array(0), device);
    }
  }
}

function encodeRecord(
  path: string,
  inode: number,
  mode: number,
  contents: Uint8Array,
  device = { major: 0, minor: 0 },
): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const links = 1;
  const fields = [inode, mode, 0, 0, links, 0, contents.length, 0, 0];
  fields.push(device.major, device.minor, name.length, 0);
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  const headerBytes = Buffer.from(header);
  return [
    headerBytes,
    name,
    padding(headerBytes.length + name.length),
    contents,
    padding(contents.length),
  ];
}

function padding(size: number): Uint8Array {
  return new Uint8Array((4 - (size % 4)) % 4);
}
