/**
 * The lines of the control channel; the protocol is drawn on top of `src/control.c`.
 *
 * Both directions are a stream that a client may enter at any byte, so decoding never fails: a line
 * that is not a reply (the tail of one that another client began to read) is dropped.
 */
export type GuestReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'output'; readonly id: string; readonly bytes: Buffer }
  | { readonly kind: 'exit'; readonly id: string; readonly exitCode: number }
  | { readonly kind: 'refused'; readonly id: string; readonly reason: string };

/** The longest command, in bytes; the guest drops request lines beyond 128 KiB. */
export const commandBytesMax = 64 * 1024;

/** Longer than any line the guest sends (a chunk of 1,536 bytes in base64, and an id). */
const replyBytesMax = 8 * 1024;

/** The leading newline ends whatever a client before us left half-sent. */
export function encodeRun(id: string, command: string): string {
  const bytes = Buffer.from(command);
  if (bytes.length > commandBytesMax) throw new RangeError(`command of ${bytes.length} bytes`);
  return `\n::run ${id} ${bytes.length} ${bytes.toString('base64')}\n`;
}

export function encodeKill(id: string): string {
  return `\n::kill ${id}\n`;
}

/** Answered with `::ready`. Costs the guest nothing, however many have piled up while it booted. */
export function encodeHello(): string {
  return '\n::hello\n';
}

export class ReplyDecoder {
  readonly #onReply: (reply: GuestReply) => void;
  #line = '';
  #skipping = false;

  constructor(onReply: (reply: GuestReply) => void) {
    this.#onReply = onReply;
  }

  /** Calls back for each reply that is now whole. Keeps at most one line's beginning. */
  write(chunk: Uint8Array): void {
    const text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1');
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      const length = this.#line.length + end - start;
      const skipped = this.#skipping || length > replyBytesMax;
      const reply = skipped ? undefined : parseReply(this.#line + text.slice(start, end));
      this.#line = '';
      this.#skipping = false;
      start = end + 1;
      if (reply !== undefined) this.#onReply(reply);
    }
    if (!this.#skipping) this.#line += text.slice(start);
    if (this.#line.length > replyBytesMax) {
      this.#line = '';
      this.#skipping = true;
    }
  }
}

const exitCodeMax = 255;
const exitLine = /^([^ ]+) ([0-9]{1,3})$/;
const textLine = /^([^ ]+) (.*)$/;

/** `undefined` for a line that is no reply. */
export function parseReply(line: string): GuestReply | undefined {
  if (line === '::ready') return { kind: 'ready' };
  if (line.startsWith('::rc ')) {
    const [, id, code] = exitLine.exec(line.slice(5)) ?? [];
    if (id !== undefined && Number(code) <= exitCodeMax) {
      return { kind: 'exit', id, exitCode: Number(code) };
    }
  } else if (line.startsWith('::out ')) {
    const [, id, data] = textLine.exec(line.slice(6)) ?? [];
    if (id !== undefined && data !== undefined && /^[A-Za-z0-9+/]*={0,2}$/.test(data)) {
      return { kind: 'output', id, bytes: Buffer.from(data, 'base64') };
    }
  } else if (line.startsWith('::no ')) {
    const [, id, reason] = textLine.exec(line.slice(5)) ?? [];
    if (id !== undefined && reason !== undefined) return { kind: 'refused', id, reason };
  }
  return undefined;
}
