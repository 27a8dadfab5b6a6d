/**
 * Where QEMU's migration stream comes in: listener, socket, decoder, sink, and what is said back.
 *
 * The stream is read while nothing holds it:
 *
 *     slot      the coordinator's: whose stream may flow now
 *     pace      the member's own: a moment's rest between two passes
 *     kept back the first pass is nearly done, and QEMU would switch over when it is
 *     full      the live limit is reached
 *
 *     listen ──▶ HELD ◀── slot, pace, kept back, full ──▶ FLOWING
 *                  letGo: only the limit holds it now ──▶ drain: nothing does
 *
 * Holding stalls only QEMU's migration thread, and only while the VM runs: once it has stopped, an
 * unread stream blocks QEMU's monitor. So nobody holds a stopped VM's stream.
 */
import type { Socket } from 'node:net';
import type { StagingShadow } from '../../shadow/index.ts';
import { UmbraError } from '../failure/failure.ts';
import { PrecopyDecoder, type StreamMode } from '../stream/decoder.ts';
import { pong, shut, switchoverAck } from '../stream/return-path.ts';
import { FlowClock } from './flow-clock.ts';
import { MigrationListener } from './migration-listener.ts';
import { ShadowSink, type StreamedMemory, type StreamResult } from './shadow-sink.ts';

export interface IntakeEvents {
  readonly onConnected: () => void;
  /** The last page that had not been sent before has arrived: QEMU's next pass is upon us. */
  readonly onAllSeen: () => void;
  /** The first page has arrived: of a background snapshot, the sign that it was cut. */
  readonly onFirstPage: () => void;
  /** The stream is held from now on, with a little of the first pass left. */
  readonly onKeptBack: () => void;
  /** The stream is whole, and written. */
  readonly onWhole: (result: StreamResult) => void;
  readonly onError: (error: unknown) => void;
}

export interface IntakeLimits {
  readonly liveLimitBytes: number;
  readonly inFlightBytes: number;
  /** For a QEMU that cannot be told to wait: the first pass is held with so many pages left. */
  readonly keepBackPages: number;
  /** What kind of stream it is. */
  readonly mode: StreamMode;
}

export class StreamIntake {
  readonly #sink: ShadowSink;
  readonly #decoder: PrecopyDecoder;
  readonly #events: IntakeEvents;
  #listener: MigrationListener | undefined;
  #socket: Socket | undefined;
  #returnPath = false;
  #result: StreamResult | undefined;
  #closed = false;
  /** What comes is read, and nothing is kept. */
  #discards = false;
  #ended: () => void = () => {};
  readonly clock = new FlowClock();
  readonly #mode: StreamMode;
  readonly #liveLimitBytes: number;
  #slot = false;
  #paced = false;
  #full = false;
  readonly #keepBackPages: number;
  #keptBack = false;
  #allSeen = false;
  #stage: 'live' | 'released' | 'draining' = 'live';

  /**
   * @param liveLimitBytes no more than this is read before `drain`
   * @param inFlightBytes no more than this is kept outside of the shadow: device state
   */
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

  /** Bytes of the stream that have been read. */
  get readBytes(): number {
    return this.counters.bytes;
  }

  /** Bytes that may still be read; while nothing limits the stream, any number. */
  get #room(): number {
    if (this.#stage === 'draining') return Number.POSITIVE_INFINITY;
    return this.#liveLimitBytes - this.readBytes;
  }

  get keptBack(): boolean {
    return this.#keptBack;
  }

  get counters() {
    return this.#decoder.counters;
  }

  get sink(): Readonly<Pick<ShadowSink, 'machineType' | 'seenPages' | 'totalPages'>> &
    StreamedMemory {
    return this.#sink;
  }

  /** Opens or closes the member's slot. */
  slot(open: boolean): void {
    this.#slot = open;
    this.#readOrHold();
  }

  /** Rests between two passes, or goes on. */
  pace(resting: boolean): void {
    this.#paced = resting;
    this.#readOrHold();
  }

  /** The VM is about to stop: slots and pacing are over, the live limit stands. */
  letGo(): void {
    if (this.#stage === 'live') this.#stage = 'released';
    this.#readOrHold();
  }

  /** The VM stands: whatever is left is taken, at once. */
  drain(): void {
    this.#stage = 'draining';
    this.#readOrHold();
  }

  #readOrHold(): void {
    const free = this.#stage === 'released' || (this.#slot && !this.#paced && !this.#keptBack);
    const reads = this.#stage === 'draining' || (free && !this.#full);
    this.clock.note(reads);
    if (reads) this.#socket?.resume();
    else this.#socket?.pause();
  }

  /** Tells a source that listens that all has arrived: it ends its migration, completed. */
  vote(): void {
    if (this.#returnPath) this.#socket?.write(shut(0));
  }

  /** Lets a source with switchover-ack leave precopy. */
  allowSwitchover(): void {
    if (this.#returnPath) this.#socket?.write(switchoverAck());
  }

  /** Without a vote, the source takes this as a failed migration. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#listener?.close();
    this.#ended();
  }

  /**
   * Whatever comes from here on is read and forgotten: a background snapshot that is broken off can
   * harm its VM (snapshot-end.ts).
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
    if (!this.#full && this.#room <= 0) {
      this.#full = true;
      this.#readOrHold();
    }
    if (fresh && this.#sink.seenPages > 0) this.#events.onFirstPage();
    this.#keepBack();
    this.#noteAllSeen();
    if (!whole && this.#result !== undefined) this.#events.onWhole(this.#result);
  }

  #keepBack(): void {
    const { seenPages, totalPages } = this.#sink;
    const left = totalPages - seenPages;
    const near = this.#keepBackPages > 0 && totalPages > 0 && left <= this.#keepBackPages;
    if (!near || this.#keptBack || this.#stage !== 'live') return;
    this.#keptBack = true;
    this.#readOrHold();
    this.#events.onKeptBack();
  }

  #noteAllSeen(): void {
    const { seenPages, totalPages } = this.#sink;
    if (this.#allSeen || totalPages === 0 || seenPages < totalPages) return;
    this.#allSeen = true;
    if (this.#stage === 'live') this.#events.onAllSeen();
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
