/**
 * Frees the memory that holes of a sealed image have become by being read through a mapping: a VM
 * that was restored from the image reads pages of zeros, and the kernel puts a page of the file
 * behind each.
 *
 *     index says     held   zeros  held   zeros           what is held is not touched
 *     before         ████   ████   ████   ····
 *     after          ████   ····   ████   ····            every reader sees the same bytes
 *
 * Pages that a VM has written are its own, and stay. An image that was touched since its seal is
 * left alone: damaged content must not get new stamps.
 *
 * Do not call this during a background snapshot of a VM that has the image mapped: it would remove
 * the write protection of those pages.
 */
import { closeSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { STAT_BLOCK_BYTES } from './libc.ts';
import { heldSlots } from './page-index.ts';
import { punchHole } from './reservation.ts';
import { retakeFileStamps, retakenFileStamps } from './retaken-stamps.ts';
import { readBlocks, type SealedBlock, type SealedShadow } from './sealed-shadow.ts';
import { fileIsUntouched } from './untouched.ts';

const PUNCHES_A_TURN = 64;

/**
 * Frees the memory of all holes of a shadow's full images.
 * @returns bytes freed
 * @throws ShadowError E_EPOCH_CORRUPT, E_STORE_IO
 */
export async function reclaimHoles(shadow: SealedShadow): Promise<number> {
  const { directory, manifest } = shadow;
  let reclaimed = 0;
  for (const sealed of await readBlocks(shadow)) {
    if (sealed.block.kind !== 'full') continue;
    reclaimed += await reclaimImage(directory, sealed, manifest.pageSize);
  }
  return reclaimed;
}

async function reclaimImage(
  directory: string,
  { block, index }: SealedBlock,
  pageSize: number,
): Promise<number> {
  const path = join(directory, block.file);
  const held = heldSlots(index);
  const wantedBytes = held.reduce((count, one) => count + one, 0) * pageSize;
  const before = (await stat(path)).blocks * STAT_BLOCK_BYTES;
  if (before <= wantedBytes || !(await fileIsUntouched(directory, block))) return 0;
  const kept = await retakenFileStamps(directory);
  const fd = openSync(path, 'r+');
  try {
    let punches = 0;
    for (let slot = held.indexOf(0); slot !== -1; ) {
      const next = held.indexOf(1, slot);
      const end = next === -1 ? held.length : next;
      punchHole(fd, path, slot * pageSize, (end - slot) * pageSize);
      if (++punches % PUNCHES_A_TURN === 0) await nextTurn();
      slot = held.indexOf(0, end);
    }
  } finally {
    closeSync(fd);
  }
  await retakeFileStamps(directory, [block.file], kept);
  return before - (await stat(path)).blocks * STAT_BLOCK_BYTES;
}
