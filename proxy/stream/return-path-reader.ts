/**
 * Reads the return path as it goes by: what the destination tells the source.
 *
 *   be16 type | be16 length | payload            return-path.ts
 *
 *   HEAD ◀──▶ PAYLOAD          any message but those that are followed by more than their payload,
 *     └─▶ BLIND                after which nothing can be told any more: postcopy recovery's bitmap
 */
const MIG_RP_MSG_SHUT = 1;
const MIG_RP_MSG_RECV_BITMAP = 5;
const TYPE_MAX = 7;
/** Bytes of a payload that are kept: SHUT's status. The rest of longer ones is skipped. */
const KEPT_BYTES = 4;
const HEAD_BYTES = 4;

export class ReturnPathReader {
  #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  #payload = Buffer.alloc(KEPT_BYTES);
  #payloadBytes = 0;
  #left = 0;
  #type = 0;
  #blind = false;
  #verdict: number | undefined;

  /** Returns the status of SHUT: 0 if the destination has loaded all; undefined before it came. */
  get verdict(): number | undefined {
    return this.#verdict;
  }

  /** Takes any cut of the stream. Never throws: what cannot be read is left to the source. */
  write(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length && !this.#blind; ) {
      if (this.#headBytes < HEAD_BYTES) {
        this.#head[this.#headBytes++] = chunk[at++] ?? 0;
        if (this.#headBytes === HEAD_BYTES) this.#begin();
        continue;
      }
      const taken = Math.min(this.#left, chunk.length - at);
      for (let i = 0; i < taken && this.#payloadBytes < KEPT_BYTES; i++) {
        this.#payload[this.#payloadBytes++] = chunk[at + i] ?? 0;
      }
      this.#left -= taken;
      at += taken;
      if (this.#left === 0) this.#end();
    }
  }

  #begin(): void {
    this.#type = this.#head.readUInt16BE(0);
    this.#left = this.#head.readUInt16BE(2);
    this.#payloadBytes = 0;
    if (this.#type < 1 || this.#type > TYPE_MAX || this.#type === MIG_RP_MSG_RECV_BITMAP) {
      this.#blind = true;
    } else if (this.#left === 0) this.#end();
  }

  #end(): void {
    this.#headBytes = 0;
    if (this.#type === MIG_RP_MSG_SHUT && this.#payloadBytes === KEPT_BYTES) {
      this.#verdict = this.#payload.readUInt32BE(0);
    }
  }
}
