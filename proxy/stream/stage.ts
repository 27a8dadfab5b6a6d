/**
 * A stage decodes one part of the stream by a simple contract: it asks for `need` bytes, is given
 * exactly those, contiguous, and then either asks again or is done. The decoder finds the bytes in
 * the chunk, or joins them in its carry buffer when a chunk border cuts them: no stage ever sees
 * a border, and only what straddles one is copied.
 */
export interface Stage {
  /** Bytes the next `step` consumes. May be 0. Bounded by the limits. */
  readonly need: number;
  /**
   * Consumes `need` bytes at `bytes[at]`.
   * @returns true when the stage is done
   * @throws StreamError
   */
  step(bytes: Buffer, at: number): boolean;
}
