/**
 * Reasons to refuse a stream. The key is the stable code, the value tells the operator what it
 * means and what to do. `StreamError.message` adds what was seen and where.
 */
export const STREAM_ERRORS = {
  E_STREAM_MAGIC:
    'The peer does not speak the QEMU migration protocol (wrong client, or TLS on one side only).',
  E_STREAM_VERSION: 'A stream format other than version 3: the source is older than any supported.',
  E_STREAM_MULTIFD: 'The source uses multifd: switch the capability "multifd" off.',
  E_STREAM_POSTCOPY:
    'The source uses postcopy, whose state is split between both sides: switch the capabilities ' +
    '"postcopy-ram" and "dirty-bitmaps" off.',
  E_STREAM_COLO: 'The source uses COLO: switch the capability "x-colo" off.',
  E_STREAM_MAPPED_RAM: 'The source writes a mapped-ram file, which needs a seekable target.',
  E_STREAM_RDMA: 'The source uses RDMA, whose pages do not travel in the stream.',
  E_STREAM_CAPABILITY: 'The source validates a capability that this decoder does not know.',
  E_STREAM_CONFIGURATION: 'The CONFIGURATION section is malformed or in the wrong place.',
  E_STREAM_ITERABLE:
    'A device other than RAM sends its state live (dirty bitmaps, block migration, VFIO, …): its ' +
    'length is unknown. Detach the device or switch its migration capability off.',
  E_STREAM_EARLY_STATE:
    'A device sends its state before RAM (virtio-mem): use x-early-migration=off or detach it.',
  E_STREAM_BACKGROUND:
    'Device state came before RAM was complete, as background-snapshot does: this decoder was ' +
    'not told to expect one.',
  E_STREAM_SECTION: 'A section of unknown type, or one that cannot stand at this place.',
  E_STREAM_SECTION_ID: 'A section continues one that was never started.',
  E_STREAM_FOOTER:
    'A section footer is missing or names another section: corruption, or a machine type ' +
    'without footers (pc 2.3 and older, Xen).',
  E_STREAM_COMMAND: 'A command that is unknown or of the wrong length.',
  E_STREAM_RAM_VERSION: 'A "ram" section that is not instance 0, version 4.',
  E_STREAM_RAM_FLAGS: 'A RAM item whose flags are unknown or contradict each other.',
  E_STREAM_BLOCK_LIST: 'The list of RAM blocks is missing, repeated or contradicts itself.',
  E_STREAM_BLOCK: 'A page belongs to a RAM block that is not in the list.',
  E_STREAM_CONTINUE: 'A page says "same block as before" and there was none before.',
  E_STREAM_OFFSET: 'A page lies outside of its RAM block.',
  E_STREAM_XBZRLE: 'An XBZRLE page does not decode to exactly one page.',
  E_STREAM_COMPRESSED: 'A zlib page does not decode to exactly one page.',
  E_STREAM_LIMIT:
    'A length is over its limit: corruption, or a machine larger than the limits allow.',
  E_STREAM_TRUNCATED:
    'The stream ended too early: the migration failed, was cancelled, or the source died.',
  E_STREAM_TRAILING: 'Bytes came after the end of the stream.',
} as const;

export type StreamErrorCode = keyof typeof STREAM_ERRORS;

/** A refused stream. The decoder that threw it stays failed and throws the same object again. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly code: StreamErrorCode;
  /** Stream offset, in bytes, of the field at fault. */
  readonly offset: number;
  /** Section that holds it, as 'ram PART' or 'CONFIGURATION'. */
  readonly section: string;

  constructor(code: StreamErrorCode, detail: string, offset: number, section: string) {
    super(`${detail} (in ${section}, byte ${offset}). ${STREAM_ERRORS[code]}`);
    this.code = code;
    this.offset = offset;
    this.section = section;
  }
}

/** The decoder's place in the stream, shared by its stages so that each error carries it. */
export class StreamPosition {
  offset = 0;
  section = 'header';

  error(code: StreamErrorCode, detail: string): StreamError {
    return new StreamError(code, detail, this.offset, this.section);
  }
}
