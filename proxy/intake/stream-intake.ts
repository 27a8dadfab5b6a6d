/**
 * Receives QEMU's migration stream, and answers on its return path.
 *
 *     QEMU ══▶ listener ──▶ socket ──▶ decoder ──▶ sink ──▶ staging shadow
 *                             ▲           │
 *                        gate.ts: read    └─▶ events: all seen, kept back, whole, error
 *                        or hold
 */
import type { Socket } from 'node:net';
import type { StagingShadow } from '../../shadow/index.ts';
import { UmbraError } from '../failure/failure.ts';
import { PrecopyDecoder, type StreamMode } from '../stream/decoder.ts';
import { pong, shut, switchoverAck } from '../stream/return-path.ts';
import { FlowClock } from './flow-clock.ts';
import { type Gate, type GateEvent, NEW_GATE, reads, turn } from './gate.ts';
import { MigrationListener } from './migration-listener.ts';
import { ShadowSink, type StreamedMemory, type StreamResult } from './shadow-sink.ts';

export interface IntakeEvents {
  readonly onConnected: () => void;
  /** The last page that had not been sent before has arrived: QEMU's next pass is near. */
  readonly onAllSeen: () => void;
  /** The first page has arrived: the sign that a background snapshot has been cut. */
  readonly onFirstPage: () => void;
  /** The stream is held from now on, with a little of the first pass left. */
  readonly onKeptBack: () => void;
  /** The stream is whole, and written. */
  readonly onWhole: (result: StreamResult) => void;
  readonly onError: (error: unknown) => void;
}

export interface IntakeLimits {
  /** The most bytes that are read before `drain`. */
  readonly liveLimitBytes: number;
  /** The most bytes that are kept outside of the shadow: device state. */
  readonly inFlightBytes: number;
  /**
   * Pages of the first pass that are left unread until `letGo`, for a QEMU that cannot be told to
   * wait. 0 for one that can.
   */
  readonly keepBackPages: number;
  readonly mode: StreamMode;
}

/** Figures of a stream, as far as it has been read. */
export interface StreamFigures {
  readonly bytes: number;
  /** Milliseconds of the live phase in which the stream was read. */
  readonly flowedMs: number;
  readonly seenPages: number;
  readonly totalPages: number;
  readonly normalPages: number;
  readonly zeroPages: number;
  readonly keptBack: boolean;
}

export class StreamIntake {
  readonly #sink: ShadowSink;
  readonly #decoder: PrecopyDecoder;
  readonly #events: IntakeEvents;
  readonly #mode: StreamMode;
  readonly #liveLimitBytes: number;
  readonly #keepBackPages: number;
  readonly clock = new FlowClock(() => performance.timeOrigin + performance.now());
  #listener: MigrationListener | undefined;
  #socket: Socket | undefined;
  #gate: Gate = NEW_GATE;
  #returnPath = false;
  #result: StreamResult | undefined;
  #allSeen = false;
  #closed = false;
  /** The stream is read, and what is read is dropped. */
  #discards = false;
  #ended: () => void = () => {};

  constructor(
    shadow: StagingShadow,
    { liveLimitBytes, inFlightBytes, keepBackPages, mode }: IntakeLimits,
    events: IntakeEvents,
  ) {
    this.#mode = mode;
    this.#liveLimitBytes = Math.ceil(liveLimitBytes);
    this.#keepBackPages = keepBackPages;
    this.#events = events;
    this.#sink = new ShadowSink(shadow, {
      onReturnPath: () => {
        this.#returnPath = true;
      },
      onPing: (value) => this.#socket?.write(pong(value)),
      onComplete: (result) => {
        this.#result = result;
      },
    });
    this.#decoder = new PrecopyDecoder(this.#sink, { tailBytes: inFlightBytes }, { mode });
  }

  /** @throws UmbraError E_LISTEN */
  async listen(path: string): Promise<void> {
    const listener = await MigrationListener.open(path, {
      onStream: (socket) => this.#accept(socket),
      onBytes: (chunk) => this.#take(chunk),
      room: () => this.#room,
    });
    this.#listener = listener;
    if (this.#closed) listener.close();
  }

  /** Returns how many bytes of the stream have been read. */
  get readBytes(): number {
    return this.counters.bytes;
  }

  /** Returns how many bytes may still be read: infinitely many once the VM has stopped. */
  get #room(): number {
    if (this.#gate.stage === 'draining') return Number.POSITIVE_INFINITY;
    return this.#liveLimitBytes - this.readBytes;
  }

  get counters() {
    return this.#decoder.counters;
  }

  get sink(): Readonly<Pick<ShadowSink, 'machineType' | 'seenPages' | 'totalPages'>> &
    StreamedMemory {
    return this.#sink;
  }

  get figures(): StreamFigures {
    const { seenPages, totalPages } = this.#sink;
    const { normalPages, zeroPages } = this.counters;
    return {
      bytes: this.readBytes,
      flowedMs: this.clock.flowedMs,
      seenPages,
      totalPages,
      normalPages,
      zeroPages,
      keptBack: this.#gate.keptBack,
    };
  }

  /** Opens or closes the member's slot. */
  slot(open: boolean): void {
    this.#turn(open ? 'slot-opens' : 'slot-closes');
  }

  /** Rests between two passes, or no longer. */
  pace(resting: boolean): void {
    this.#turn(resting ? 'pace-on' : 'pace-off');
  }

  /** Ends slots and pacing, for the VM is about to stop. The live limit still holds. */
  letGo(): void {
    this.#turn('released');
  }

  /** Reads all that is left, for the VM has stopped. */
  drain(): void {
    this.#turn('draining');
  }

  #turn(event: GateEvent): void {
    this.#gate = turn(this.#gate, event);
    this.#readOrHold();
  }

  #readOrHold(): void {
    const reading = reads(this.#gate);
    this.clock.note(reading);
    if (reading) this.#socket?.resume();
    else this.#socket?.pause();
  }

  /** Tells a source with a return path that all has arrived: it completes its migration. */
  vote(): void {
    if (this.#returnPath) this.#socket?.write(shut(0));
  }

  /** Lets a source with switchover-ack leave precopy. */
  allowSwitchover(): void {
    if (this.#returnPath) this.#socket?.write(switchoverAck());
  }

  /** Closes listener and stream. Without a vote, QEMU's migration then fails. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#listener?.close();
    this.#ended();
  }

  /**
   * Reads the rest of the stream and drops it: a background snapshot that is broken off can harm
   * its VM (proxy/member/repair/snapshot-end.ts).
   * @returns settles when the stream has ended
   */
  discard(): Promise<void> {
    this.#discards = true;
    return new Promise((resolve) => {
      this.#ended = resolve;
      if (this.#closed || this.#socket?.readableEnded === true) resolve();
      this.drain();
    });
  }

  #accept(socket: Socket): void {
    this.#socket = socket;
    socket.on('end', () => this.#onEnd());
    socket.on('close', () => this.#ended());
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      if (this.#discards) return;
      const message = `QEMU’s migration stream broke: ${cause.code}`;
      this.#events.onError(new UmbraError({ code: 'E_STREAM_LOST', message }, cause));
    });
    this.#readOrHold();
    this.#events.onConnected();
  }

  #take(chunk: Buffer): void {
    if (this.#discards) return;
    const whole = this.#result !== undefined;
    const fresh = this.#sink.seenPages === 0;
    try {
      this.#sink.begin(chunk);
      this.#decoder.write(chunk);
      this.#sink.end();
    } catch (error) {
      if (this.#mode === 'background') this.#discards = true;
      else this.#socket?.destroy();
      this.#events.onError(error);
      return;
    }
    if (!this.#gate.full && this.#room <= 0) this.#turn('limit-reached');
    if (fresh && this.#sink.seenPages > 0) this.#events.onFirstPage();
    this.#keepBack();
    this.#noteAllSeen();
    if (!whole && this.#result !== undefined) this.#events.onWhole(this.#result);
  }

  #keepBack(): void {
    const { seenPages, totalPages } = this.#sink;
    const left = totalPages - seenPages;
    const near = this.#keepBackPages > 0 && totalPages > 0 && left <= this.#keepBackPages;
    if (!near || this.#gate.keptBack) return;
    this.#turn('kept-back');
    if (this.#gate.keptBack) this.#events.onKeptBack();
  }

  #noteAllSeen(): void {
    const { seenPages, totalPages } = this.#sink;
    if (this.#allSeen || totalPages === 0 || seenPages < totalPages) return;
    this.#allSeen = true;
    if (this.#gate.stage === 'live') this.#events.onAllSeen();
  }

  #onEnd(): void {
    this.#ended();
    if (this.#discards) return;
    const whole = this.#result !== undefined;
    try {
      this.#decoder.end();
    } catch (error) {
      this.#events.onError(error);
      return;
    }
    if (!whole && this.#result !== undefined) this.#events.onWhole(this.#result);
  }
}
