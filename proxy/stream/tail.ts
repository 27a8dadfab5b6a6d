/**
 * The tail: everything from the first FULL on, kept verbatim, and the search for its end.
 *
 *   FULL … FULL … 00 (EOF) [ 06 | be32 L | L bytes JSON ]                           VMDESC
 *
 * FULL sections carry no length, so the end can only be recognised from behind. A source without
 * return path closes its socket: that is the end, and `close` only splits the bytes. A source with
 * return path keeps the socket open and waits, so the end must be seen in band. `findEnd`, called
 * when a chunk has been added, accepts it when all of these hold:
 *
 *   1. the last byte is '}', and `00 06 be32(L)` stands exactly L bytes before the end;
 *   2. those L bytes are JSON that describes devices and has this stream's page size;
 *   3. walking the device state by it lands on the EOF byte, or, since QEMU before 10.0 has
 *      sizes wrong for some devices, at least the first device is the described one.
 *
 * Such bytes inside of a device's state (a guest that migrates a guest of its own through slirp)
 * could only deceive if a chunk ended exactly there and 3 held; the bytes that follow would then
 * fail the stream with E_STREAM_TRAILING.
 *
 * Cost: JSON has no NUL byte, so the header lies around the last NUL, whose place is kept from
 * chunk to chunk; each byte is searched once. JSON is parsed only when 1. holds: between two
 * different last NULs the candidates do not overlap, and one NUL has five at most.
 */
import type { StreamPosition } from './errors.ts';
import type { StreamLimits } from './limits.ts';
import type { EndEvidence } from './sink.ts';
import { matchHeader, parseJson, parseVmdesc, walkDevices } from './vmdesc.ts';
import {
  QEMU_VM_EOF,
  QEMU_VM_SECTION_FOOTER,
  QEMU_VM_SECTION_FULL,
  QEMU_VM_VMDESCRIPTION,
} from './wire.ts';

const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
/** Type byte and length of VMDESC. */
const VMDESC_HEAD = 5;
/** Where the length can start, seen from the last NUL: that is one of its bytes, or the EOF. */
const LENGTH_PLACES: readonly number[] = [0, -1, -2, -3, 2];
const CAPACITY_MIN = 64 * 1024;

export interface TailEnd {
  readonly deviceState: Buffer;
  readonly vmdesc: string | undefined;
  readonly end: EndEvidence;
}

export class Tail {
  readonly #location: StreamPosition;
  readonly #limits: StreamLimits;
  readonly #pageSize: number;
  #bytes = Buffer.alloc(0);
  #length = 0;
  #lastNul = -1;

  constructor(location: StreamPosition, limits: StreamLimits, pageSize: number) {
    this.#location = location;
    this.#limits = limits;
    this.#pageSize = pageSize;
  }

  /** Returns the bytes of memory in use. */
  get capacity(): number {
    return this.#bytes.length;
  }

  add(chunk: Buffer, at: number): void {
    const added = chunk.length - at;
    const total = this.#length + added;
    const most = this.#limits.tailBytes + VMDESC_HEAD + this.#limits.vmdescBytes;
    if (total > most) throw this.#overLimit('device state and VMDESC', total, most);
    if (total > this.#bytes.length) this.#grow(total, most);
    chunk.copy(this.#bytes, this.#length, at);
    const nul = chunk.lastIndexOf(0);
    if (nul >= at) this.#lastNul = this.#length + nul - at;
    this.#length = total;
  }

  /** Finds the in-band end, see above. */
  findEnd(): TailEnd | undefined {
    for (const at of this.#candidates()) {
      const text = this.#text(at);
      const vmdesc = parseVmdesc(text);
      if (vmdesc === undefined || vmdesc.pageSize !== this.#pageSize) continue;
      const deviceState = this.#bytes.subarray(0, at);
      if (walkDevices(deviceState, vmdesc).exact) return this.#end(at, text, 'walk');
      const first = vmdesc.devices[0];
      if (first !== undefined && matchHeader(deviceState, 0, first)) {
        return this.#end(at, text, 'json');
      }
    }
    return undefined;
  }

  /**
   * Finds the end now that the transport is closed and nothing more comes.
   * @throws StreamError E_STREAM_TRUNCATED
   */
  close(): TailEnd {
    for (const at of this.#candidates()) {
      const text = this.#text(at);
      if (parseJson(text) !== undefined) return this.#end(at, text, 'eof');
    }
    if (this.#endsOnEof()) return this.#end(this.#length, undefined, 'eof');
    throw this.#location.error('E_STREAM_TRUNCATED', `${this.#length} bytes of device state came`);
  }

  /** Offsets of VMDESC's type byte for which the length fits exactly, behind an EOF byte. */
  *#candidates(): Generator<number> {
    const bytes = this.#bytes;
    if (this.#length === 0 || bytes[this.#length - 1] !== CLOSE_BRACE) return;
    for (const location of LENGTH_PLACES) {
      const at = this.#lastNul + location - 1;
      const json = at + VMDESC_HEAD;
      if (at < 1 || json >= this.#length || bytes[json] !== OPEN_BRACE) continue;
      if (bytes[at] !== QEMU_VM_VMDESCRIPTION || bytes[at - 1] !== QEMU_VM_EOF) continue;
      if (bytes.readUInt32BE(at + 1) === this.#length - json) yield at;
    }
  }

  #text(at: number): string {
    const length = this.#length - at - VMDESC_HEAD;
    const most = this.#limits.vmdescBytes;
    if (length > most) throw this.#overLimit('VMDESC', length, most);
    return this.#bytes.toString('utf8', at + VMDESC_HEAD, this.#length);
  }

  /**
   * Tells an end from a cut. Without VMDESC only the last section's footer can: device state is
   * full of zero bytes, and a cut may fall behind one.
   */
  #endsOnEof(): boolean {
    const eof = this.#length - 1;
    if (this.#bytes[eof] !== QEMU_VM_EOF) return false;
    if (eof === 0) return true;
    const footer = eof - VMDESC_HEAD;
    if (footer < 0 || this.#bytes[footer] !== QEMU_VM_SECTION_FOOTER) return false;
    const header = Buffer.from(this.#bytes.subarray(footer, eof));
    header[0] = QEMU_VM_SECTION_FULL;
    const found = this.#bytes.indexOf(header);
    return found >= 0 && found < footer;
  }

  #end(deviceStateLength: number, vmdesc: string | undefined, end: EndEvidence): TailEnd {
    const most = this.#limits.tailBytes;
    if (deviceStateLength > most) throw this.#overLimit('device state', deviceStateLength, most);
    // A copy of its own: the buffer may be twice as long.
    const deviceState = Buffer.from(this.#bytes.subarray(0, deviceStateLength));
    this.#bytes = Buffer.alloc(0);
    this.#length = 0;
    return { deviceState, vmdesc, end };
  }

  #grow(total: number, most: number): void {
    const capacity = Math.min(Math.max(total, 2 * this.#bytes.length, CAPACITY_MIN), most);
    const grown = Buffer.allocUnsafeSlow(capacity);
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }

  #overLimit(what: string, length: number, most: number): Error {
    return this.#location.error('E_STREAM_LIMIT', `${length} bytes of ${what}, limit ${most}`);
  }
}
