/**
 * Unpacks the kernel in a bzImage, so that QEMU starts it at its own entry (PVH). Otherwise the
 * guest unpacks it at every boot, which takes an emulated guest a second.
 *
 *     bzImage  setup │ unpacking code │ payload: LZ4 or zstd of an ELF │ its length, u32 │ …
 *              0x248  offset of the payload in what follows the setup, u32   (Linux, x86/boot.rst)
 *              0x24c  its length, with the u32 at its end, u32
 *
 * Debian 12 packs its kernel with LZ4, Debian 13 with zstd. One that is packed otherwise, or has no
 * PVH entry, is booted as it is.
 */
import { spawnSync } from 'node:child_process';
import { decompressFrameSync } from 'lz4-napi';

const MAGIC_AT = 0x202;
const SETUP_SECTORS_AT = 0x1f1;
const PAYLOAD_OFFSET_AT = 0x248;
const PAYLOAD_LENGTH_AT = 0x24c;
const SECTOR_BYTES = 512;
const ELF = Buffer.from('\x7fELF');
/** Head of the PVH note: length of "Xen\0", length of its content, XEN_ELFNOTE_PHYS32_ENTRY. */
const PVH_NOTE = Buffer.concat([
  Buffer.from(Uint32Array.of(4, 8, 18).buffer),
  Buffer.from('Xen\0', 'latin1'),
]);
const LENGTH_BYTES = 4;
/** Limit of an unpacked kernel, bytes: several times the size of Debian's. */
const KERNEL_BYTES_MAX = 512 * 1024 * 1024;

interface Packing {
  readonly name: string;
  /** First bytes of what is packed so, in hexadecimal digits. */
  readonly magic: string;
  /** Undefined where we cannot unpack it. */
  readonly unpack?: (packed: Buffer) => Buffer;
}

/** The ways in which Linux packs itself (Linux, lib/decompress.c). */
const PACKINGS: readonly Packing[] = [
  { name: 'LZ4', magic: '02214c18', unpack: decompressFrameSync },
  { name: 'zstd', magic: '28b52ffd', unpack: unpackZstd },
  { name: 'gzip', magic: '1f8b' },
  { name: 'xz', magic: 'fd377a585a00' },
  { name: 'LZMA', magic: '5d0000' },
  { name: 'LZO', magic: '894c5a4f' },
  { name: 'bzip2', magic: '425a68' },
];

/** The kernel that was in an image, or why the image has to be booted as it is. */
export type UnpackedKernel =
  | { readonly kernel: Buffer; readonly obstacle?: undefined }
  | { readonly kernel?: undefined; readonly obstacle: string };

/** Unpacks the kernel in a bzImage. Never throws: the image can always be booted as it is. */
export function pvhKernel(image: Buffer): UnpackedKernel {
  if (
    image.length < SECTOR_BYTES * 2 ||
    image.toString('latin1', MAGIC_AT, MAGIC_AT + 4) !== 'HdrS'
  ) {
    return { obstacle: 'the kernel is no bzImage' };
  }
  const setup = (image.readUInt8(SETUP_SECTORS_AT) + 1) * SECTOR_BYTES;
  const from = setup + image.readUInt32LE(PAYLOAD_OFFSET_AT);
  const packed = image.subarray(from, from + image.readUInt32LE(PAYLOAD_LENGTH_AT) - LENGTH_BYTES);
  const packing = PACKINGS.find(({ magic }) => {
    return packed.toString('hex', 0, magic.length / 2) === magic;
  });
  if (packing?.unpack === undefined) {
    const how = packing?.name ?? `an unknown method (${packed.toString('hex', 0, 4)})`;
    return { obstacle: `the kernel is packed with ${how}, not with LZ4 or zstd` };
  }
  return kernelIn(packed, packing.unpack);
}

function kernelIn(packed: Buffer, unpack: (packed: Buffer) => Buffer): UnpackedKernel {
  let kernel: Buffer;
  try {
    kernel = unpack(packed);
  } catch (error) {
    return { obstacle: `the kernel cannot be unpacked: ${String(error)}` };
  }
  if (!kernel.subarray(0, ELF.length).equals(ELF)) return { obstacle: 'the kernel is no ELF' };
  if (!kernel.includes(PVH_NOTE)) return { obstacle: 'the kernel has no entry of its own (PVH)' };
  return { kernel };
}

/** Unpacks by the program that packs the image as well. @throws Error with its own words */
function unpackZstd(packed: Buffer): Buffer {
  const options = { input: packed, maxBuffer: KERNEL_BYTES_MAX };
  const { error, status, stdout, stderr } = spawnSync('zstd', ['-q', '-d', '-c'], options);
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.toString().trim() || `zstd: exit code ${status}`);
  return stdout;
}
