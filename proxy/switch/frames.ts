/**
 * QEMU's stream netdev:   length, 4 bytes big endian | Ethernet frame   and again
 *
 * A frame is handed on together with its length field, ready to be written to another port.
 */
export const lengthBytes = 4;

/** QEMU's own limit (its NET_BUFSIZE): a 64 KiB segment and its headers. */
export const frameBytesMax = 4096 + 65536;

/** Destination, source, type. */
export const frameBytesMin = 14;

/** Thrown by `FrameDecoder.write`; there is no way to find the next frame in such a stream. */
export class FrameLengthError extends Error {
  override readonly name = 'FrameLengthError';
  readonly code = 'SWITCH_FRAME_LENGTH';

  constructor(length: number) {
    super(`a frame of ${length} bytes is announced; the limit is ${frameBytesMax}`);
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
   * `wire` in the callback is a view, valid until the callback returns.
   * @throws FrameLengthError; the decoder is of no use afterwards.
   */
  write(chunk: Buffer): void {
    let at = this.#heldBytes > 0 ? this.#finishHeld(chunk) : 0;
    while (chunk.length - at >= lengthBytes) {
      const end = at + lengthBytes + checkedLength(chunk, at);
      if (end > chunk.length) break;
      this.#onFrame(chunk.subarray(at, end));
      at = end;
    }
    if (at < chunk.length) this.#hold(chunk, at, chunk.length);
  }

  /** Completes the held frame from the start of `chunk`; returns how much of it that took. */
  #finishHeld(chunk: Buffer): number {
    let at = 0;
    if (this.#heldBytes < lengthBytes) {
      at = this.#hold(chunk, 0, Math.min(lengthBytes - this.#heldBytes, chunk.length));
      if (this.#heldBytes < lengthBytes) return at;
    }
    const held = this.#heldBuffer();
    const missing = lengthBytes + checkedLength(held, 0) - this.#heldBytes;
    at = this.#hold(chunk, at, Math.min(at + missing, chunk.length));
    if (this.#heldBytes === lengthBytes + held.readUInt32BE(0)) {
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
    this.#held ??= Buffer.allocUnsafe(lengthBytes + frameBytesMax);
    return this.#held;
  }
}

function checkedLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at);
  if (length > frameBytesMax) throw new FrameLengthError(length);
  return length;
}
