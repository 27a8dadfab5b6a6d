/**
 * Limit on how far a shadow may grow beyond what was reserved for it. Only a delta grows, because
 * before a round nothing tells how much of the memory has changed. Every byte it takes is counted
 * against what admission has granted, and against what the host has left.
 */
import { ShadowError } from './errors.ts';
import { measureRoom } from './room.ts';

/** Bytes after which the host's free memory is measured again. */
const LOOK_BYTES = 16 * 2 ** 20;

export class Allowance {
  readonly #directory: string;
  readonly #headroomBytes: number;
  #leftBytes: number;
  #sinceLook = LOOK_BYTES;

  /**
   * @param limitBytes most that the shadow may take
   * @param headroomBytes must stay free for the rest of the host
   */
  constructor(directory: string, limitBytes: number, headroomBytes: number) {
    this.#directory = directory;
    this.#leftBytes = limitBytes;
    this.#headroomBytes = headroomBytes;
  }

  /**
   * Counts bytes that the shadow is about to take.
   * @throws ShadowError E_STORE_NO_ROOM, with `missingBytes`
   */
  take(bytes: number): void {
    this.#leftBytes -= bytes;
    if (this.#leftBytes < 0) {
      const why = 'more memory has changed than the round was admitted for';
      throw this.#noRoom(why, -this.#leftBytes);
    }
    this.#sinceLook += bytes;
    if (this.#sinceLook < LOOK_BYTES) return;
    this.#sinceLook = 0;
    const { availableBytes, limitedBy } = measureRoom(this.#directory);
    const missing = this.#headroomBytes + LOOK_BYTES - availableBytes;
    if (missing > 0) throw this.#noRoom(`the host runs out of memory (${limitedBy})`, missing);
  }

  #noRoom(why: string, missingBytes: number): ShadowError {
    const path = this.#directory;
    const message = `${path}: ${why}: ${missingBytes} bytes are missing`;
    return new ShadowError('E_STORE_NO_ROOM', message, { path, missingBytes });
  }
}
