/**
 * Decodes the main channel of a precopy migration: `write` bytes in, `PrecopySink` calls out.
 *
 *   "QEVM" be32 3
 *   [07 CONFIGURATION]
 *   { 08 COMMAND | 01 START ram | 02 PART ram | 03 END ram } …   each section: 7e footer
 *   04 FULL … 00 EOF [06 VMDESC]                                 the tail, opaque: tail.ts
 *
 *   HEADER ─▶ TYPE ◀──┬─▶ CONFIGURATION
 *              │ │    ├─▶ COMMAND ─▶ PING_VALUE
 *              │ │    ├─▶ FULL_ID ─▶ FULL_HEADER ─▶ RAM ─▶ FOOTER
 *              │ │    └─▶ PART_ID ─────────────────▲
 *              │ └ first FULL or EOF after RAM END ─▶ TAIL ─▶ COMPLETE
 *              └ any error, from anywhere ─▶ FAILED, for good
 *
 * The part of a source is played by QEMU alone, so what this decoder does not understand it cannot
 * skip (sections carry no length): it refuses by name. Format: migration/savevm.c,
 * qemu_loadvm_state_main.
 */
import { Carry } from './carry.ts';
import { Configuration } from './configuration.ts';
import { type StreamCounters, zeroCounters } from './counters.ts';
import { StreamPosition } from './errors.ts';
import { type StreamLimits, verifyLimits } from './limits.ts';
import { PHASE, type Phase } from './phase.ts';
import { RamSection } from './ram-section.ts';
import { refuseCommand, refuseMagic } from './refusals.ts';
import type { PrecopySink } from './sink.ts';
import { Tail, type TailEnd } from './tail.ts';
import * as wire from './wire.ts';

const HEADER = 0;
const TYPE = 1;
const CONFIGURATION = 2;
const COMMAND = 3;
const PING_VALUE = 4;
const FULL_ID = 5;
const FULL_HEADER = 6;
const PART_ID = 7;
const RAM = 8;
const FOOTER = 9;
const TAIL = 10;
const COMPLETE = 11;
const FAILED = 12;

/** `background`: the stream of background-snapshot, where device state comes without RAM END. */
export type StreamMode = 'precopy' | 'background';

const SECTION_NAMES: Readonly<Record<number, string>> = {
  [wire.QEMU_VM_SECTION_START]: 'START',
  [wire.QEMU_VM_SECTION_PART]: 'PART',
  [wire.QEMU_VM_SECTION_END]: 'END',
  [wire.QEMU_VM_SECTION_FULL]: 'FULL',
};

export class PrecopyDecoder {
  readonly #sink: PrecopySink;
  readonly #limits: StreamLimits;
  readonly #mode: StreamMode;
  readonly #location = new StreamPosition();
  readonly #counters = zeroCounters();
  readonly #carry = new Carry();
  #state = HEADER;
  /** Bytes the present state consumes in one step. */
  #need = 8;
  #failure: unknown;
  #position = 0;

  #configuration: Configuration | undefined;
  #ram: RamSection | undefined;
  #tail: Tail | undefined;
  #sectionType = 0;
  #sectionId = 0;
  /** Stream offset of the type byte of the section at hand. */
  #sectionStart = 0;
  /** Bound by RAM START; -1 before. */
  #ramSectionId = -1;
  #ramEnded = false;
  #returnPath = false;

  /** @throws RangeError on a limit out of its bounds */
  constructor(
    sink: PrecopySink,
    limits: Partial<StreamLimits> = {},
    options: { readonly mode?: StreamMode } = {},
  ) {
    this.#sink = sink;
    this.#limits = verifyLimits(limits);
    this.#mode = options.mode ?? 'precopy';
  }

  /** Returns the counters: a live object, to be read and not kept for comparison. */
  get counters(): Readonly<StreamCounters> {
    return this.#counters;
  }

  /** Returns the stream offset of the first byte not yet decoded. */
  get position(): number {
    return this.#position;
  }

  /** Returns the bytes of memory in use; the limits bound them, never the stream. */
  get bufferedBytes(): number {
    const configuration = this.#configuration?.raw.length ?? 0;
    return this.#carry.bytes.length + configuration + (this.#tail?.capacity ?? 0);
  }

  get phase(): Phase {
    if (this.#state === FAILED) return PHASE.failed;
    if (this.#state === COMPLETE) return PHASE.complete;
    if (this.#ramEnded || this.#state === TAIL) return PHASE.tail;
    return this.#ram?.hasBlocks ? PHASE.ram : PHASE.header;
  }

  /**
   * Decodes a chunk; any cut will do. The chunk is the caller's again on return.
   * @throws StreamError, or what the sink throws; every later call throws the same
   */
  write(chunk: Uint8Array): void {
    if (this.#state === FAILED) throw this.#failure;
    try {
      this.#counters.bytes += chunk.length;
      this.#consume(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * Completes the stream or fails it: the transport is at its end.
   * @throws StreamError E_STREAM_TRUNCATED, or what the sink throws
   */
  end(): void {
    if (this.#state === FAILED) throw this.#failure;
    if (this.#state === COMPLETE) return;
    try {
      this.#location.offset = this.#position;
      if (this.#tail === undefined) {
        throw this.#location.error(
          'E_STREAM_TRUNCATED',
          'The transport closed before RAM was final',
        );
      }
      this.#finish(this.#tail.close());
    } catch (error) {
      throw this.#fail(error);
    }
  }

  #consume(chunk: Buffer): void {
    let at = 0;
    for (;;) {
      switch (this.#state) {
        case TAIL:
          this.#addToTail(chunk, at);
          return;
        case COMPLETE:
          this.#location.offset = this.#position;
          if (at === chunk.length) return;
          throw this.#location.error('E_STREAM_TRAILING', `${chunk.length - at} more bytes`);
        case RAM:
          if (this.#carry.isEmpty) at = this.#runRam(chunk, at);
          break;
      }
      const need = this.#need;
      if (this.#carry.isEmpty && chunk.length - at >= need) {
        this.#step(chunk, at, need);
        at += need;
        continue;
      }
      at += this.#carry.fill(chunk, at, need);
      if (!this.#carry.release(need)) return;
      this.#step(this.#carry.bytes, 0, need);
    }
  }

  #runRam(chunk: Buffer, at: number): number {
    const next = this.#ram?.run(chunk, at) ?? at;
    this.#position += next - at;
    return next;
  }

  /** Makes one transition with the `need` bytes at `bytes[at]`. */
  #step(bytes: Buffer, at: number, need: number): void {
    this.#location.offset = this.#position;
    switch (this.#state) {
      case HEADER:
        this.#header(bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4));
        break;
      case TYPE:
        this.#type(bytes.readUInt8(at));
        break;
      case CONFIGURATION:
        this.#configurationStep(bytes, at);
        break;
      case COMMAND:
        this.#command(bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2));
        break;
      case PING_VALUE:
        this.#sink.ping(bytes.readUInt32BE(at));
        this.#await(TYPE, 1);
        break;
      case FULL_ID:
        this.#fullId(bytes.readUInt32BE(at), bytes.readUInt8(at + 4));
        break;
      case FULL_HEADER:
        this.#fullHeader(
          bytes.toString('latin1', at, at + need - 8),
          bytes.readUInt32BE(at + need - 8),
          bytes.readUInt32BE(at + need - 4),
        );
        break;
      case PART_ID:
        this.#partId(bytes.readUInt32BE(at));
        break;
      case RAM:
        this.#ramStep(bytes, at);
        break;
      case FOOTER:
        this.#footer(bytes.readUInt8(at), bytes.readUInt32BE(at + 1));
        break;
    }
    this.#position += need;
  }

  #header(magic: number, version: number): void {
    if (magic !== wire.QEMU_VM_FILE_MAGIC) throw refuseMagic(this.#location, magic);
    if (version !== wire.QEMU_VM_FILE_VERSION) {
      throw this.#location.error('E_STREAM_VERSION', `Stream version ${version}`);
    }
    this.#await(TYPE, 1);
  }

  #type(type: number): void {
    this.#sectionStart = this.#position;
    if (type === wire.QEMU_VM_CONFIGURATION) {
      this.#beginConfiguration();
      return;
    }
    // The one place where 05 is expected: the CONFIGURATION section has no end mark.
    const inConfiguration = this.#ram === undefined && this.#configuration !== undefined;
    if (type === wire.QEMU_VM_SUBSECTION && inConfiguration) {
      this.#configuration?.beginSubsection();
      this.#awaitConfiguration();
      return;
    }
    const ram = this.#knowMachine();
    this.#sectionType = type;
    this.#location.section = SECTION_NAMES[type] ?? 'section';
    switch (type) {
      case wire.QEMU_VM_COMMAND:
        this.#await(COMMAND, 4);
        return;
      case wire.QEMU_VM_SECTION_START:
        this.#await(FULL_ID, 5);
        return;
      case wire.QEMU_VM_SECTION_PART:
      case wire.QEMU_VM_SECTION_END:
        this.#await(PART_ID, 4);
        return;
      case wire.QEMU_VM_SECTION_FULL:
        if (!this.#ramEnded && this.#mode === 'background' && ram.hasBlocks) this.#endRam();
        if (this.#ramEnded) this.#beginTail(type);
        else this.#await(FULL_ID, 5);
        return;
      case wire.QEMU_VM_EOF:
        if (this.#ramEnded) this.#beginTail(type);
        else throw this.#location.error('E_STREAM_TRUNCATED', 'The source ended before RAM did');
        return;
      default: {
        const detail = `Section type 0x${type.toString(16)} at this place`;
        throw this.#location.error('E_STREAM_SECTION', detail);
      }
    }
  }

  #beginConfiguration(): void {
    this.#enter('CONFIGURATION');
    if (this.#configuration !== undefined || this.#ram !== undefined) {
      throw this.#location.error('E_STREAM_CONFIGURATION', 'Not the first section');
    }
    this.#configuration = new Configuration(this.#location, this.#limits);
    this.#awaitConfiguration();
  }

  #configurationStep(bytes: Buffer, at: number): void {
    if (this.#configuration?.step(bytes, at)) this.#await(TYPE, 1);
    else this.#awaitConfiguration();
  }

  #awaitConfiguration(): void {
    this.#await(CONFIGURATION, this.#configuration?.need ?? 0);
  }

  /** Reports the machine: the first section after CONFIGURATION settles the page size. */
  #knowMachine(): RamSection {
    if (this.#ram !== undefined) return this.#ram;
    const machine = this.#configuration ?? {
      machineType: '',
      pageSize: wire.LEGACY_PAGE_SIZE,
      ignoreShared: false,
    };
    this.#ram = new RamSection(this.#sink, this.#location, this.#limits, this.#counters, machine);
    this.#sink.machine(machine.machineType, machine.pageSize);
    return this.#ram;
  }

  #command(command: number, length: number): void {
    this.#enter(`COMMAND ${wire.COMMAND_NAMES[command] ?? command}`);
    const refusal = refuseCommand(this.#location, command, length);
    if (refusal !== undefined) throw refusal;
    if (command === wire.MIG_CMD_PING) {
      this.#await(PING_VALUE, 4);
      return;
    }
    if (command === wire.MIG_CMD_OPEN_RETURN_PATH) {
      this.#returnPath = true;
      this.#sink.returnPath();
    }
    // SWITCHOVER_START only tells devices that we do not have.
    this.#await(TYPE, 1);
  }

  #fullId(id: number, nameLength: number): void {
    if (nameLength > this.#limits.idstrBytes) {
      const detail = `Section name of ${nameLength} bytes, limit ${this.#limits.idstrBytes}`;
      throw this.#location.error('E_STREAM_LIMIT', detail);
    }
    this.#sectionId = id;
    this.#await(FULL_HEADER, nameLength + 8);
  }

  #fullHeader(name: string, instance: number, version: number): void {
    this.#enter(`${name} ${SECTION_NAMES[this.#sectionType]}`);
    if (this.#sectionType === wire.QEMU_VM_SECTION_FULL) {
      const started = this.#ramSectionId >= 0;
      const code = started ? 'E_STREAM_BACKGROUND' : 'E_STREAM_EARLY_STATE';
      const when = started ? 'before RAM END' : 'before RAM START';
      throw this.#location.error(code, `Device "${name}" sends its state ${when}`);
    }
    if (name !== 'ram') {
      throw this.#location.error('E_STREAM_ITERABLE', `"${name}" sends its state live`);
    }
    if (instance !== 0 || version !== wire.RAM_SECTION_VERSION) {
      const detail = `"ram" is instance ${instance}, version ${version}`;
      throw this.#location.error('E_STREAM_RAM_VERSION', detail);
    }
    if (this.#ramSectionId >= 0) {
      throw this.#location.error('E_STREAM_SECTION', 'A second START of "ram"');
    }
    this.#ramSectionId = this.#sectionId;
    this.#beginRam();
  }

  #partId(id: number): void {
    if (id !== this.#ramSectionId || this.#ramEnded) {
      const why = id === this.#ramSectionId ? 'has ended' : 'was never started';
      throw this.#location.error('E_STREAM_SECTION_ID', `Section ${id} ${why}`);
    }
    this.#sectionId = id;
    this.#enter(`ram ${SECTION_NAMES[this.#sectionType]}`);
    this.#beginRam();
  }

  #beginRam(): void {
    this.#counters.ramSections++;
    this.#await(RAM, 8);
  }

  #ramStep(bytes: Buffer, at: number): void {
    const ram = this.#knowMachine();
    if (ram.step(bytes, at)) this.#await(FOOTER, 5);
    else this.#await(RAM, ram.need);
  }

  #footer(mark: number, id: number): void {
    if (mark !== wire.QEMU_VM_SECTION_FOOTER || id !== this.#sectionId) {
      const seen = mark === wire.QEMU_VM_SECTION_FOOTER ? `of section ${id}` : 'missing';
      throw this.#location.error(
        'E_STREAM_FOOTER',
        `Footer of section ${this.#sectionId}: ${seen}`,
      );
    }
    if (this.#sectionType === wire.QEMU_VM_SECTION_END) this.#endRam();
    this.#await(TYPE, 1);
  }

  #endRam(): void {
    this.#ramEnded = true;
    this.#sink.ramEnd();
  }

  #beginTail(type: number): void {
    this.#enter('device state');
    this.#tail = new Tail(this.#location, this.#limits, this.#knowMachine().pageSize);
    this.#tail.add(Buffer.of(type), 0);
    this.#await(TAIL, 0);
  }

  #addToTail(chunk: Buffer, at: number): void {
    const tail = this.#tail;
    if (tail === undefined) throw new Error('In the tail without one');
    this.#location.offset = this.#position;
    tail.add(chunk, at);
    this.#position += chunk.length - at;
    // Without return path the source closes its socket, which is the better evidence.
    const end = this.#returnPath ? tail.findEnd() : undefined;
    if (end !== undefined) this.#finish(end);
  }

  #finish(end: TailEnd): void {
    this.#await(COMPLETE, 0);
    // Copied: a view would show the whole of the growing buffer behind it.
    const configuration = Uint8Array.from(this.#configuration?.raw ?? []);
    this.#sink.complete({ configuration, ...end });
  }

  #enter(section: string): void {
    this.#location.section = section;
    this.#sink.section?.(section, this.#sectionStart);
  }

  #await(state: number, need: number): void {
    this.#state = state;
    this.#need = need;
  }

  #fail(error: unknown): unknown {
    this.#state = FAILED;
    this.#failure = error;
    this.#tail = undefined;
    return error;
  }
}
