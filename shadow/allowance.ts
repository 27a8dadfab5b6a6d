/**
 * How far a shadow may grow beyond what was reserved for it. Only a delta grows: nobody knows before a
 * round how much of the memory has changed. What it takes is counted here, against what admission has
 * given it and against what the host has left.
 */
import { ShadowError } from './errors.ts';
import { measureRoom } from './room.ts';

/** The host is asked again after so many bytes. */
const LOOK_BYTES = 16 * 2 ** 20;

export class Allowance {
  readonly #directory: string;
  readonly #headroomBytes: number;
  #leftBytes: number;
  #sinceLook = LOOK_BYTES;

  /**
   * @param limitBytes the most it may take
   * @param headroomBytes what must stay free for the rest of the host
   */
  constructor(directory: string, limitBytes: number, headroomBytes: number) {
    this.#directory = directory;
    this.#leftBytes = limitBytes;
    this.#headroomBytes = headroomBytes;
  }

  /** @throws ShadowError E_STORE_NO_ROOM, with `missingBytes` */
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
