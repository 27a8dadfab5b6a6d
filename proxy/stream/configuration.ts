/**
 * The CONFIGURATION section (migration/savevm.c, vmstate_configuration):
 *
 *   07 | be32 n | n bytes machine type
 *      { 05 | u8 n, name | be32 version 1 | payload } …      subsections, each at most once
 *
 *   configuration/target-page-bits   be32 bits
 *   configuration/capabilities       be32 count, count × (u8 n, name)
 *   configuration/uuid               16 bytes
 *
 * It has no end mark. It ends where the next byte is not 05, which no top-level section begins
 * with: the decoder looks at that byte and calls `beginSubsection`, or goes on to the section.
 */
import type { StreamPosition } from './errors.ts';
import type { StreamLimits } from './limits.ts';
import type { Stage } from './stage.ts';
import { LEGACY_PAGE_SIZE, QEMU_VM_CONFIGURATION, QEMU_VM_SUBSECTION } from './wire.ts';

const MACHINE_LENGTH = 0;
const MACHINE_NAME = 1;
const SUBSECTION_LENGTH = 2;
const SUBSECTION_HEAD = 3;
const PAGE_BITS = 4;
const CAPABILITY_COUNT = 5;
const CAPABILITY_LENGTH = 6;
const CAPABILITY_NAME = 7;
const UUID = 8;

/** Bits of 1 KiB (Arm's minimum), the least a page can have. */
const PAGE_BITS_MIN = 10;

export class Configuration implements Stage {
  readonly #location: StreamPosition;
  readonly #limits: StreamLimits;
  readonly #seen = new Set<string>();
  #raw = Buffer.alloc(0);
  #rawLength = 0;
  #state = MACHINE_LENGTH;
  #need = 4;
  #capabilitiesLeft = 0;
  #machineType = '';
  #pageSize = LEGACY_PAGE_SIZE;
  #ignoreShared = false;

  constructor(location: StreamPosition, limits: StreamLimits) {
    this.#location = location;
    this.#limits = limits;
    this.#keep(Buffer.of(QEMU_VM_CONFIGURATION), 0, 1);
  }

  get need(): number {
    return this.#need;
  }

  get machineType(): string {
    return this.#machineType;
  }

  /** Returns the size of a target page, bytes. */
  get pageSize(): number {
    return this.#pageSize;
  }

  /** Returns true if x-ignore-shared is on: the block list carries guest addresses. */
  get ignoreShared(): boolean {
    return this.#ignoreShared;
  }

  /** Returns the section so far, verbatim. */
  get raw(): Buffer {
    return this.#raw.subarray(0, this.#rawLength);
  }

  /** Begins a subsection: the byte after the section turned out to be 05. */
  beginSubsection(): void {
    this.#keep(Buffer.of(QEMU_VM_SUBSECTION), 0, 1);
    this.#await(SUBSECTION_LENGTH, 1);
  }

  step(bytes: Buffer, at: number): boolean {
    const need = this.#need;
    this.#keep(bytes, at, need);
    switch (this.#state) {
      case MACHINE_LENGTH: {
        const length = bytes.readUInt32BE(at);
        const most = this.#limits.machineTypeBytes;
        if (length > most) throw this.#overLimit('machine type', length, most);
        return this.#await(MACHINE_NAME, length);
      }
      case MACHINE_NAME:
        this.#machineType = bytes.toString('latin1', at, at + need);
        return true;
      case SUBSECTION_LENGTH:
        return this.#await(SUBSECTION_HEAD, this.#nameLength(bytes.readUInt8(at)) + 4);
      case SUBSECTION_HEAD:
        return this.#subsection(
          bytes.toString('latin1', at, at + need - 4),
          bytes.readUInt32BE(at + need - 4),
        );
      case PAGE_BITS: {
        const bits = bytes.readUInt32BE(at);
        if (bits < PAGE_BITS_MIN || bits > Math.log2(this.#limits.pageBytes)) {
          throw this.#overLimit('target-page-bits', bits, Math.log2(this.#limits.pageBytes));
        }
        this.#pageSize = 2 ** bits;
        return true;
      }
      case CAPABILITY_COUNT:
        // No limit of its own: each name takes a byte at least of configurationBytes.
        this.#capabilitiesLeft = bytes.readUInt32BE(at);
        return this.#capabilitiesLeft === 0 || this.#await(CAPABILITY_LENGTH, 1);
      case CAPABILITY_LENGTH:
        return this.#await(CAPABILITY_NAME, this.#nameLength(bytes.readUInt8(at)));
      case CAPABILITY_NAME:
        this.#capability(bytes.toString('latin1', at, at + need));
        this.#capabilitiesLeft--;
        return this.#capabilitiesLeft === 0 || this.#await(CAPABILITY_LENGTH, 1);
      default: // UUID: kept verbatim, for the destination to check.
        return true;
    }
  }

  #subsection(name: string, version: number): boolean {
    if (version !== 1 || this.#seen.has(name)) {
      const what = version === 1 ? 'comes twice' : `has version ${version}, not 1`;
      throw this.#location.error('E_STREAM_CONFIGURATION', `Subsection "${name}" ${what}`);
    }
    this.#seen.add(name);
    switch (name) {
      case 'configuration/target-page-bits':
        return this.#await(PAGE_BITS, 4);
      case 'configuration/capabilities':
        return this.#await(CAPABILITY_COUNT, 4);
      case 'configuration/uuid':
        return this.#await(UUID, 16);
      default:
        throw this.#location.error('E_STREAM_CONFIGURATION', `Unknown subsection "${name}"`);
    }
  }

  #capability(name: string): void {
    switch (name) {
      case 'x-ignore-shared':
        this.#ignoreShared = true;
        return;
      case 'mapped-ram':
        throw this.#location.error('E_STREAM_MAPPED_RAM', 'The capability mapped-ram is on');
      default:
        // QEMU validates only capabilities that change the format: this one does, somehow.
        throw this.#location.error('E_STREAM_CAPABILITY', `The capability "${name}" is on`);
    }
  }

  #nameLength(length: number): number {
    if (length <= this.#limits.idstrBytes) return length;
    throw this.#overLimit('name', length, this.#limits.idstrBytes);
  }

  #await(state: number, need: number): false {
    this.#state = state;
    this.#need = need;
    return false;
  }

  #keep(bytes: Buffer, at: number, length: number): void {
    const total = this.#rawLength + length;
    const most = this.#limits.configurationBytes;
    if (total > most) throw this.#overLimit('CONFIGURATION section', total, most);
    if (total > this.#raw.length) {
      const grown = Buffer.alloc(Math.max(total, 2 * this.#raw.length));
      this.#raw.copy(grown, 0, 0, this.#rawLength);
      this.#raw = grown;
    }
    bytes.copy(this.#raw, this.#rawLength, at, at + length);
    this.#rawLength = total;
  }

  #overLimit(what: string, value: number, most: number): Error {
    return this.#location.error(
      'E_STREAM_LIMIT',
      `Length or value ${value} of ${what}, limit ${most}`,
    );
  }
}
