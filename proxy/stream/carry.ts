/**
 * Joins an item that a chunk border cut. One buffer, as large as the largest item so far (a page,
 * in practice), is used again and again: nothing is allocated per cut.
 */
export class Carry {
  /** The joined item, from 0, once `fill` has said that it is whole. */
  bytes = Buffer.allocUnsafeSlow(512);
  #length = 0;

  /** Returns true if no item is cut: the next one begins in the chunk. */
  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /**
   * Takes from `chunk[at..]` what is missing of an item of `need` bytes.
   * @returns bytes taken
   */
  fill(chunk: Buffer, at: number, need: number): number {
    // An item keeps its need until it is whole, so the buffer can only be too small when empty.
    if (this.bytes.length < need) this.bytes = Buffer.allocUnsafeSlow(need);
    const taken = chunk.copy(this.bytes, this.#length, at, at + need - this.#length);
    this.#length += taken;
    return taken;
  }

  /** Tells whether an item of `need` bytes is whole; if so, the next `fill` begins a new one. */
  release(need: number): boolean {
    if (this.#length < need) return false;
    this.#length = 0;
    return true;
  }
}
