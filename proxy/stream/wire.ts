/**
 * Constants of QEMU's migration stream, under QEMU's own names.
 * Sources: migration/savevm.h, migration/savevm.c, migration/ram.h, migration/multifd.h.
 */

/** First four bytes of the main channel, "QEVM". */
export const QEMU_VM_FILE_MAGIC = 0x5145564d;
export const QEMU_VM_FILE_VERSION = 3;
/** First four bytes of a multifd data channel. */
export const MULTIFD_MAGIC = 0x11223344;

export const QEMU_VM_EOF = 0x00;
export const QEMU_VM_SECTION_START = 0x01;
export const QEMU_VM_SECTION_PART = 0x02;
export const QEMU_VM_SECTION_END = 0x03;
export const QEMU_VM_SECTION_FULL = 0x04;
export const QEMU_VM_SUBSECTION = 0x05;
export const QEMU_VM_VMDESCRIPTION = 0x06;
export const QEMU_VM_CONFIGURATION = 0x07;
export const QEMU_VM_COMMAND = 0x08;
export const QEMU_VM_SECTION_FOOTER = 0x7e;

export const MIG_CMD_OPEN_RETURN_PATH = 1;
export const MIG_CMD_PING = 2;
export const MIG_CMD_POSTCOPY_ADVISE = 3;
export const MIG_CMD_POSTCOPY_LISTEN = 4;
export const MIG_CMD_POSTCOPY_RUN = 5;
export const MIG_CMD_POSTCOPY_RAM_DISCARD = 6;
export const MIG_CMD_PACKAGED = 7;
export const MIG_CMD_ENABLE_COLO = 8;
export const MIG_CMD_POSTCOPY_RESUME = 9;
export const MIG_CMD_RECV_BITMAP = 10;
export const MIG_CMD_SWITCHOVER_START = 11;

/** Command names for messages; the index is the number on the wire. */
export const COMMAND_NAMES: readonly string[] = [
  'INVALID',
  'OPEN_RETURN_PATH',
  'PING',
  'POSTCOPY_ADVISE',
  'POSTCOPY_LISTEN',
  'POSTCOPY_RUN',
  'POSTCOPY_RAM_DISCARD',
  'PACKAGED',
  'ENABLE_COLO',
  'POSTCOPY_RESUME',
  'RECV_BITMAP',
  'SWITCHOVER_START',
];

/** The only version of the "ram" section since 2009. */
export const RAM_SECTION_VERSION = 4;

export const RAM_SAVE_FLAG_FULL = 0x001;
export const RAM_SAVE_FLAG_ZERO = 0x002;
export const RAM_SAVE_FLAG_MEM_SIZE = 0x004;
export const RAM_SAVE_FLAG_PAGE = 0x008;
export const RAM_SAVE_FLAG_EOS = 0x010;
export const RAM_SAVE_FLAG_CONTINUE = 0x020;
export const RAM_SAVE_FLAG_XBZRLE = 0x040;
export const RAM_SAVE_FLAG_HOOK = 0x080;
export const RAM_SAVE_FLAG_COMPRESS_PAGE = 0x100;
export const RAM_SAVE_FLAG_MULTIFD_FLUSH = 0x200;

/** First byte of an XBZRLE payload (migration/ram.c, load_xbzrle). */
export const ENCODING_FLAG_XBZRLE = 1;

/** Page size of a source that sends no configuration/target-page-bits (x86 and most targets). */
export const LEGACY_PAGE_SIZE = 4096;

/** 2^32: joins the two halves of a be64 without BigInt; exact below 2^53. */
export const TWO_POW_32 = 0x1_0000_0000;
