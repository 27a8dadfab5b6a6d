/** Reads from QEMU which memory a VM has: its RAM blocks, and whether a balloon gives some back. */
import { type QmpClient, QmpError } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

export interface RamBlockInfo {
  readonly idstr: string;
  /** Bytes in use, which is what the stream carries. */
  readonly length: number;
  /** Its address in QEMU's memory; since QEMU 8.0. */
  readonly address?: bigint;
}

/** Returns the RAM blocks that QEMU lists, including those that it may not migrate. */
export async function ramBlocks(qmp: QmpClient): Promise<RamBlockInfo[]> {
  const answer = await qmp.execute('x-query-ramblock');
  return parseRamBlocks(answer['human-readable-text']);
}

/**
 * Reads the table of ram_block_format (softmmu/physmem.c, system/physmem.c):
 *
 *     Block Name    PSize              Offset               Used              Total  [HVA  RO]
 *         pc.ram    4 KiB  0x0000000000000000 0x0000000020000000 0x0000000020000000
 *
 * @throws UmbraError E_QEMU_UNSUPPORTED when no line can be read
 */
function parseRamBlocks(table: string): RamBlockInfo[] {
  const row =
    /^\s*(\S.*?)\s+\d+ [KMG]?i?B\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x[0-9a-f]+(?:\s+(0x[0-9a-f]+))?/;
  const blocks = table.split('\n').flatMap((line) => {
    const match = row.exec(line);
    if (match === null) return [];
    const [, idstr = '', length = '', address] = match;
    const where = address === undefined ? {} : { address: BigInt(address) };
    return [{ idstr, length: Number.parseInt(length, 16), ...where }];
  });
  if (blocks.length === 0) {
    const message = 'QEMU lists no RAM blocks that can be read (x-query-ramblock)';
    throw new UmbraError({ code: 'E_QEMU_UNSUPPORTED', message });
  }
  return blocks;
}

/** Returns true if the VM has a device that gives back memory its guest does not use. */
export async function hasBalloon(qmp: QmpClient): Promise<boolean> {
  try {
    await qmp.execute('query-balloon');
    return true;
  } catch (error) {
    if (!(error instanceof QmpError) || error.code !== 'E_QMP_COMMAND') throw error;
    // Any other error is that of a balloon whose size QEMU cannot tell.
    return error.qemuClass !== 'DeviceNotActive';
  }
}
