/**
 * The lines of the control channel; `src/control.c` draws the protocol at its top.
 *
 * A client may connect at any byte of the stream, so decoding never fails: a line that is not a
 * reply is dropped, such as the tail of a line whose beginning an earlier client has read.
 */

/** A line from the guest; `id` names the command it belongs to. */
export type GuestReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'output'; readonly id: string; readonly bytes: Buffer }
  | { readonly kind: 'exit'; readonly id: string; readonly exitCode: number }
  | { readonly kind: 'refused'; readonly id: string; readonly reason: string };

/** Limit of a command, bytes; the guest drops request lines beyond 128 KiB. */
export const COMMAND_BYTES_MAX = 64 * 1024;

/** Limit of a reply, bytes: more than any the guest sends (1,536 bytes in base64, and an id). */
const REPLY_BYTES_MAX = 8 * 1024;

/**
 * Encodes the request to run a command. The leading newline ends a line that an earlier client may
 * have left incomplete.
 * @throws RangeError if the command is longer than COMMAND_BYTES_MAX
 */
export function encodeRun(id: string, command: string): string {
  const bytes = Buffer.from(command);
  if (bytes.length > COMMAND_BYTES_MAX) throw new RangeError(`command of ${bytes.length} bytes`);
  return `\n::run ${id} ${bytes.length} ${bytes.toString('base64')}\n`;
}

/** Encodes the request to kill a command. */
export function encodeKill(id: string): string {
  return `\n::kill ${id}\n`;
}

/**
 * Encodes the request that the guest answers with `::ready`. It costs the guest next to nothing,
 * even if many have piled up while it booted.
 */
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

  /** Calls back for each complete reply. Keeps the beginning of one line at most. */
  write(chunk: Uint8Array): void {
    const text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1');
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      const length = this.#line.length + end - start;
      const skipped = this.#skipping || length > REPLY_BYTES_MAX;
      const reply = skipped ? undefined : parseReply(this.#line + text.slice(start, end));
      this.#line = '';
      this.#skipping = false;
      start = end + 1;
      if (reply !== undefined) this.#onReply(reply);
    }
    if (!this.#skipping) this.#line += text.slice(start);
    if (this.#line.length > REPLY_BYTES_MAX) {
      this.#line = '';
      this.#skipping = true;
    }
  }
}

const EXIT_CODE_MAX = 255;
const EXIT_LINE = /^([^ ]+) ([0-9]{1,3})$/;
const TEXT_LINE = /^([^ ]+) (.*)$/;

/** Parses a line; returns undefined if it is no reply. */
export function parseReply(line: string): GuestReply | undefined {
  if (line === '::ready') return { kind: 'ready' };
  if (line.startsWith('::rc ')) {
    const [, id, code] = EXIT_LINE.exec(line.slice(5)) ?? [];
    if (id !== undefined && Number(code) <= EXIT_CODE_MAX) {
      return { kind: 'exit', id, exitCode: Number(code) };
    }
  } else if (line.startsWith('::out ')) {
    const [, id, data] = TEXT_LINE.exec(line.slice(6)) ?? [];
    if (id !== undefined && data !== undefined && /^[A-Za-z0-9+/]*={0,2}$/.test(data)) {
      return { kind: 'output', id, bytes: Buffer.from(data, 'base64') };
    }
  } else if (line.startsWith('::no ')) {
    const [, id, reason] = TEXT_LINE.exec(line.slice(5)) ?? [];
    if (id !== undefined && reason !== undefined) return { kind: 'refused', id, reason };
  }
  return undefined;
}
