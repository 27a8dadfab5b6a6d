/**
 * QMP framing: one JSON object a line.
 *
 *     {"return": {}, "id": 7}\r\n
 *     {"event": "STOP", …}\r\n
 *
 * QEMU ends every message with CR LF (monitor/qmp.c, qmp_send_response) and never pretty-prints
 * unless asked to, so a line is a message. Sans-IO: bytes in, lines out.
 */
import { QmpError } from './errors.ts';

/** The largest message QEMU sends is its schema, about 200 KiB. */
export const DEFAULT_MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024;

const LINE_FEED = 0x0a;

export class LineFramer {
  readonly #limitBytes: number;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  /** @param limitBytes the longest line accepted; a longer one throws E_QMP_FRAME. */
  constructor(limitBytes = DEFAULT_MESSAGE_LIMIT_BYTES) {
    this.#limitBytes = limitBytes;
  }

  /** Takes any cut of the byte stream; calls `onLine` for each whole, non-empty line. */
  push(chunk: Uint8Array, onLine: (line: string) => void): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(LINE_FEED, start);
      const stop = end === -1 ? chunk.length : end;
      if (this.#pendingBytes + (stop - start) > this.#limitBytes) {
        throw new QmpError('E_QMP_FRAME', `a message exceeds ${this.#limitBytes} bytes`);
      }
      if (end === -1) {
        if (start < chunk.length) this.#keep(chunk.slice(start));
        return;
      }
      const line = this.#take(chunk.subarray(start, end));
      if (line !== '') onLine(line);
      start = end + 1;
    }
  }

  #keep(bytes: Uint8Array): void {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
  }

  #take(rest: Uint8Array): string {
    const whole = this.#pendingBytes === 0 ? rest : Buffer.concat([...this.#pending, rest]);
    this.#pending = [];
    this.#pendingBytes = 0;
    return Buffer.from(whole.buffer, whole.byteOffset, whole.length).toString('utf8').trim();
  }
}
