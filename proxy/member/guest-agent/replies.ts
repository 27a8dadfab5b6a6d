/**
 * Reads what a guest agent writes, bytes to replies (qga/main.c, docs/interop/qemu-ga-ref). PURE.
 *
 *     … rest of an old answer \n {"return": 7} \n  ff {"return": ID} \n  {"return": {}} \n
 *     └────────── skipped: another conversation's ──────────┘ └─ ours begins
 *
 * A guest that was restored may still answer what was asked of it before the cut. So a
 * conversation begins with `guest-sync-delimited` and a random number: the agent answers with a
 * byte that no JSON has, and the number. All of it comes from the guest and is not trusted.
 */
import { UmbraError } from '../../failure/failure.ts';

/** No UTF-8 text has this byte. */
export const MARK = 0xff;
const NEWLINE = 0x0a;
/** Longest line that is kept: answers to our questions are far shorter. */
const LINE_BYTES_MAX = 4096;
/** Longest excerpt of the guest's words in a message. */
const EXCERPT_CHARACTERS = 80;

export type Reply =
  | { readonly kind: 'return'; readonly value: unknown }
  /** The agent refuses; its words are safe to print. */
  | { readonly kind: 'error'; readonly words: string };

/** Reads one conversation. */
export class ReplyReader {
  readonly #id: number;
  /** True after a mark: the line that follows may be the answer to our number. */
  #marked = false;
  #begun = false;
  #line: Buffer[] = [];
  #lineBytes = 0;

  /** @param id the number that `guest-sync-delimited` was asked with */
  constructor(id: number) {
    this.#id = id;
  }

  /**
   * Reads bytes, in pieces of any size.
   * @returns the replies of this conversation that are complete now; the first is our number
   * @throws UmbraError E_GUEST_AGENT
   */
  *read(chunk: Buffer): Generator<Reply> {
    for (let at = 0; at < chunk.length; ) {
      if (!this.#begun && !this.#marked) {
        const mark = chunk.indexOf(MARK, at);
        if (mark < 0) return;
        this.#marked = true;
        at = mark + 1;
        continue;
      }
      const newline = chunk.indexOf(NEWLINE, at);
      const end = newline < 0 ? chunk.length : newline;
      this.#keep(chunk.subarray(at, end));
      at = end + 1;
      if (newline < 0) return;
      const line = this.#take();
      if (!this.#begun) {
        this.#begun = objectIn(line)?.return === this.#id;
        this.#marked = false; // else it was the answer to an earlier client's number
      }
      if (this.#begun) yield parseReply(line);
    }
  }

  /** Keeps a part of a line; before our number, a mark in it ends what was written before. */
  #keep(part: Buffer): void {
    const mark = this.#begun ? -1 : part.lastIndexOf(MARK);
    if (mark >= 0) this.#take();
    const kept = part.subarray(mark + 1);
    this.#lineBytes += kept.length;
    if (this.#lineBytes <= LINE_BYTES_MAX) this.#line.push(kept);
    else if (this.#begun) throw fault(`answers with more than ${LINE_BYTES_MAX} bytes`);
    else this.#line = []; // nor is it the answer to our number
  }

  #take(): string {
    const line = Buffer.concat(this.#line).toString('utf8');
    this.#line = [];
    this.#lineBytes = 0;
    return line;
  }
}

/** Returns words of the guest's as they can be printed: short, in quotes, of plain letters. */
export function quoted(words: string): string {
  const short = words.slice(0, EXCERPT_CHARACTERS).replace(/[^\x20-\x7e]/g, '?');
  return `"${short}${words.length > EXCERPT_CHARACTERS ? '…' : ''}"`;
}

/** Makes the error of an agent that does not behave. */
export function fault(what: string, cause?: unknown): UmbraError {
  return new UmbraError({ code: 'E_GUEST_AGENT', message: `the guest agent ${what}` }, cause);
}

/** Parses a line of the agent. @throws UmbraError E_GUEST_AGENT */
export function parseReply(line: string): Reply {
  const reply = objectIn(line);
  if (reply === undefined) throw fault(`answers ${quoted(line)}`);
  if ('return' in reply) return { kind: 'return', value: reply.return };
  const { error } = reply;
  const desc = typeof error === 'object' && error !== null && 'desc' in error ? error.desc : error;
  if (typeof desc !== 'string') throw fault(`answers ${quoted(line)}`);
  return { kind: 'error', words: quoted(desc) };
}

function objectIn(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}
