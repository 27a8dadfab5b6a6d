/**
 * Unpacks the kernel in a bzImage, so that QEMU starts it at its own entry (PVH). Otherwise the
 * guest unpacks it at every boot, which takes an emulated guest a second.
 *
 *     bzImage  setup │ unpacking code │ payload: "02 21 4c 18", LZ4 of an ELF │ its length, u32 │ …
 *              0x248  offset of the payload in what follows the setup, u32   (Linux, x86/boot.rst)
 *              0x24c  its length, with the u32 at its end, u32
 *
 * Debian's kernel is packed with LZ4. One that is packed otherwise, or has no PVH entry, is booted
 * as it is.
 */
import { decompressFrameSync } from 'lz4-napi';

const MAGIC_AT = 0x202;
const SETUP_SECTORS_AT = 0x1f1;
const PAYLOAD_OFFSET_AT = 0x248;
const PAYLOAD_LENGTH_AT = 0x24c;
const SECTOR_BYTES = 512;
const LZ4_LEGACY = Buffer.from([0x02, 0x21, 0x4c, 0x18]);
const ELF = Buffer.from('\x7fELF');
/** Head of the PVH note: length of "Xen\0", length of its content, XEN_ELFNOTE_PHYS32_ENTRY. */
const PVH_NOTE = Buffer.concat([
  Buffer.from(Uint32Array.of(4, 8, 18).buffer),
  Buffer.from('Xen\0', 'latin1'),
]);
const LENGTH_BYTES = 4;

/** Returns the unpacked kernel; undefined if the image has to be booted as it is. */
export function pvhKernel(image: Buffer): Buffer | undefined {
  if (
    image.length < SECTOR_BYTES * 2 ||
    image.toString('latin1', MAGIC_AT, MAGIC_AT + 4) !== 'HdrS'
  ) {
    return undefined;
  }
  const setup = (image.readUInt8(SETUP_SECTORS_AT) + 1) * SECTOR_BYTES;
  const from = setup + image.readUInt32LE(PAYLOAD_OFFSET_AT);
  const packed = image.subarray(from, from + image.readUInt32LE(PAYLOAD_LENGTH_AT) - LENGTH_BYTES);
  if (!packed.subarray(0, LZ4_LEGACY.length).equals(LZ4_LEGACY)) return undefined;
  const kernel = decompressFrameSync(packed);
  const isPvh = kernel.subarray(0, ELF.length).equals(ELF) && kernel.includes(PVH_NOTE);
  return isPvh ? kernel : undefined;
}
