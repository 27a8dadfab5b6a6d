/**
 * Frames of QEMU's stream netdev:   length, 4 bytes big endian | Ethernet frame | length | …
 *
 * A frame is passed on together with its length field, ready to be written to another port.
 */
export const LENGTH_BYTES = 4;

/** QEMU's own limit (its NET_BUFSIZE): a 64 KiB segment and its headers. */
export const FRAME_BYTES_MAX = 4096 + 65536;

/** The shortest frame: destination, source, type. */
export const FRAME_BYTES_MIN = 14;

/** An impossible length, thrown by `FrameDecoder.write`: the next frame cannot be found. */
export class FrameLengthError extends Error {
  override readonly name = 'FrameLengthError';
  readonly code = 'SWITCH_FRAME_LENGTH';

  constructor(length: number) {
    super(`a frame of ${length} bytes is announced; the limit is ${FRAME_BYTES_MAX}`);
  }
}

/** Cuts a byte stream into frames. Copies only those that lie across chunks. */
export class FrameDecoder {
  readonly #onFrame: (wire: Buffer) => void;
  /** The beginning of an unfinished frame; allocated once, at the largest frame's size. */
  #held: Buffer | undefined;
  #heldBytes = 0;

  constructor(onFrame: (wire: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /**
   * Takes any cut of the stream; calls back with each whole frame.
   * `wire` in the callback is a view, valid until the callback returns.
   * @throws FrameLengthError; the decoder must not be used afterwards
   */
  write(chunk: Buffer): void {
    let at = this.#heldBytes > 0 ? this.#finishHeld(chunk) : 0;
    while (chunk.length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + checkedLength(chunk, at);
      if (end > chunk.length) break;
      this.#onFrame(chunk.subarray(at, end));
      at = end;
    }
    if (at < chunk.length) this.#hold(chunk, at, chunk.length);
  }

  /** Completes the held frame from the start of `chunk`; returns how much of it that took. */
  #finishHeld(chunk: Buffer): number {
    let at = 0;
    if (this.#heldBytes < LENGTH_BYTES) {
      at = this.#hold(chunk, 0, Math.min(LENGTH_BYTES - this.#heldBytes, chunk.length));
      if (this.#heldBytes < LENGTH_BYTES) return at;
    }
    const held = this.#heldBuffer();
    const missing = LENGTH_BYTES + checkedLength(held, 0) - this.#heldBytes;
    at = this.#hold(chunk, at, Math.min(at + missing, chunk.length));
    if (this.#heldBytes === LENGTH_BYTES + held.readUInt32BE(0)) {
      const wire = held.subarray(0, this.#heldBytes);
      this.#heldBytes = 0;
      this.#onFrame(wire);
    }
    return at;
  }

  #hold(chunk: Buffer, start: number, end: number): number {
    chunk.copy(this.#heldBuffer(), this.#heldBytes, start, end);
    this.#heldBytes += end - start;
    return end;
  }

  #heldBuffer(): Buffer {
    this.#held ??= Buffer.allocUnsafe(LENGTH_BYTES + FRAME_BYTES_MAX);
    return this.#held;
  }
}

function checkedLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at);
  if (length > FRAME_BYTES_MAX) throw new FrameLengthError(length);
  return length;
}
