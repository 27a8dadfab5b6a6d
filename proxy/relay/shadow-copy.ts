/**
 * The shadow of one migration: its main channel is decoded into staging as it passes, and kept as
 * an epoch when the destination has confirmed the migration.
 *
 *     WAITS ──its turn, and the block list is known──▶ STAGES ──there is room──▶ TAKES ──▶ WHOLE
 *       └── chunks are kept aside, within a limit ───────┘                        │         │
 *                                                          any trouble ──▶ LOST ◀─┘   keep ─┴▶ KEPT
 *
 * A lost shadow never touches the migration.
 */
import type { Failure } from '../failure/failure.ts';
import { toFailure } from '../failure/failure.ts';
import { ShadowSink, type StreamResult } from '../intake/shadow-sink.ts';
import { PrecopyDecoder } from '../stream/decoder.ts';
import type { CountingSink } from './counting-sink.ts';
import type { RelayStore, Staged } from './relay-store.ts';
import type { ShadowReport } from './report.ts';

const WAITS = 0;
const STAGES = 1;
const TAKES = 2;
const WHOLE = 3;
const LOST = 4;

export interface CopyEvents {
  /** Stops the stream while nothing more can be kept aside, and lets it continue. */
  readonly onFull: (full: boolean) => void;
}

export class ShadowCopy {
  readonly #store: RelayStore;
  readonly #member: string;
  readonly #head: CountingSink;
  readonly #events: CopyEvents;
  #state = WAITS;
  #turn = false;
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #staging: Promise<void> = Promise.resolve();
  #staged: Staged | undefined;
  #sink: ShadowSink | undefined;
  #decoder: PrecopyDecoder | undefined;
  #result: StreamResult | undefined;
  #failure: Failure | undefined;
  #ended = false;

  /** @param head sink of the follower, which has read the stream's beginning */
  constructor(store: RelayStore, member: string, head: CountingSink, events: CopyEvents) {
    this.#store = store;
    this.#member = member;
    this.#head = head;
    this.#events = events;
  }

  /** Returns the sink of pages; undefined before any is taken, and when the shadow is lost. */
  get sink(): ShadowSink | undefined {
    return this.#state === LOST ? undefined : this.#sink;
  }

  get counters() {
    return this.#decoder?.counters;
  }

  /** Begins to stage: the migration's turn has come. Idempotent. */
  begin(): void {
    this.#turn = true;
    this.#stageIfReady();
  }

  write(chunk: Buffer): void {
    if (this.#state === TAKES) {
      this.#decode(chunk);
      return;
    }
    if (this.#state === WHOLE) this.lose({ code: 'E_STREAM_TRAILING', message: 'more bytes came' });
    if (this.#state > STAGES) return;
    this.#backlog.push(Buffer.from(chunk)); // its memory is used again
    this.#backlogBytes += chunk.length;
    if (this.#backlogBytes >= this.#store.inFlightBytes) this.#events.onFull(true);
    this.#stageIfReady();
  }

  /** Ends the stream: the source has sent its last byte. */
  end(): void {
    this.#ended = true;
    if (this.#state !== TAKES) return;
    try {
      this.#decoder?.end();
    } catch (error) {
      this.lose(toFailure(error, {}));
    }
  }

  /** Gives the shadow up. The first reason stays. */
  lose(failure: Failure): void {
    if (this.#state === LOST) return;
    this.#state = LOST;
    this.#failure = failure;
    this.#dropBacklog();
  }

  /**
   * Keeps the shadow, or discards it: the migration is over.
   * @param failure why nothing is to be kept, if so
   */
  async settle(failure: Failure | undefined): Promise<ShadowReport> {
    await this.#staging;
    if (failure !== undefined) this.lose(failure);
    if (this.#state !== WHOLE) {
      const message = 'the stream was not whole';
      this.lose({ code: 'E_STREAM_TRUNCATED', message });
    } else if (this.#sink?.seenPages !== this.#sink?.totalPages) {
      const message = `${this.#sink?.seenPages} of ${this.#sink?.totalPages} pages passed here`;
      this.lose({ code: 'E_RELAY_SHADOW', message });
    }
    const staged = this.#staged;
    if (staged === undefined || this.#result === undefined || this.#state === LOST) {
      await staged?.discard();
      return { kept: false, failure: this.#failure ?? { code: 'E_RELAY_SHADOW', message: '' } };
    }
    try {
      return await staged.keep(this.#result, this.#sink?.machineType ?? '');
    } catch (error) {
      await staged.discard();
      return { kept: false, failure: toFailure(error, {}) };
    }
  }

  #stageIfReady(): void {
    if (this.#state !== WAITS || !this.#turn || this.#head.layout.length === 0) return;
    this.#state = STAGES;
    this.#events.onFull(true);
    this.#staging = this.#stage().finally(() => this.#events.onFull(false));
  }

  async #stage(): Promise<void> {
    try {
      const { layout, pageSize } = this.#head;
      const blocks = layout.map(({ idstr, usedLength }) => ({ idstr, length: usedLength }));
      const staged = await this.#store.stage(this.#member, blocks, pageSize);
      this.#staged = staged;
      if (this.#state === LOST) return; // it was lost meanwhile: settle discards it
      this.#sink = new ShadowSink(staged.shadow, {
        onReturnPath: () => {},
        onPing: () => {},
        onComplete: (result) => {
          this.#result = result;
          this.#state = WHOLE;
        },
      });
      this.#decoder = new PrecopyDecoder(this.#sink);
      this.#state = TAKES;
    } catch (error) {
      this.lose(toFailure(error, {}));
      return;
    }
    const backlog = this.#backlog;
    this.#dropBacklog();
    for (const chunk of backlog) this.write(chunk);
    if (this.#ended) this.end();
  }

  #decode(chunk: Buffer): void {
    try {
      this.#sink?.begin(chunk);
      this.#decoder?.write(chunk);
      this.#sink?.end();
    } catch (error) {
      this.lose(toFailure(error, {}));
    }
  }

  #dropBacklog(): void {
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#events.onFull(false);
  }
}
