/**
 * Reads /proc/PID/pagemap, 8 bytes a page (Documentation/admin-guide/mm/pagemap.rst):
 *
 *     bit 63   the page is in memory
 *     bit 56   it is mapped by this process alone
 */
import { readSync } from 'node:fs';
import { PAGE_BYTES } from './linux.ts';

const ENTRY_SIZE = 8;
/** Bits 63 and 56, in the uppermost byte of an entry. */
const OWNED = 0x81;

/**
 * Returns how much of a range of private memory takes none of the host's: pages that were never
 * written, were given back, or are swapped out. The zero page, which a read of unwritten memory
 * maps, belongs to no process.
 * @param pagemap descriptor of the process's pagemap
 * @throws Error if the process has ended
 */
export function absentBytes(pagemap: number, address: bigint, bytes: number): number {
  const entries = new Uint8Array((bytes / PAGE_BYTES) * ENTRY_SIZE);
  const position = (address / BigInt(PAGE_BYTES)) * BigInt(ENTRY_SIZE);
  if (readSync(pagemap, entries, { position }) < entries.length) {
    throw new Error(`/proc/PID/pagemap has nothing for 0x${address.toString(16)}`);
  }
  let absent = 0;
  for (let at = ENTRY_SIZE - 1; at < entries.length; at += ENTRY_SIZE) {
    if (((entries[at] ?? 0) & OWNED) !== OWNED) absent += PAGE_BYTES;
  }
  return absent;
}
