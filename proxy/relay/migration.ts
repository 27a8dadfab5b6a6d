/**
 * One migration that passes: its connections, what can be read of it, and how it ended.
 *
 *     one connection       main, or TLS
 *     multifd              main and N multifd, each a connection; with TLS, 1 + N of TLS
 *
 * Its connections share one fate: when one dies before the destination has confirmed the migration,
 * all are reset, or QEMU would wait for the others (7.2 for minutes). It is over when the last has
 * closed.
 */
import { type Estimate, estimate, nothingKnown, type Passing } from '../../policies/index.ts';
import { type Failure, UmbraError } from '../failure/failure.ts';
import { faultPoint } from '../failure/fault-point.ts';
import { FlowClock } from '../intake/flow-clock.ts';
import { ReturnPathReader } from '../stream/return-path-reader.ts';
import type { Channel } from './channel.ts';
import type { ChannelKind } from './classify.ts';
import { Follower } from './follower.ts';
import { type End, notesOf, outcomeOf, unreadable } from './outcome.ts';
import type { RelayStore } from './relay-store.ts';
import {
  etaOf,
  type MigrationProgress,
  type MigrationReport,
  type Position,
  type ShadowReport,
  shareOf,
  type Transport,
} from './report.ts';
import { ShadowCopy } from './shadow-copy.ts';

export interface MigrationContext {
  readonly id: string;
  readonly name: string;
  readonly listen: string;
  readonly to: string;
}

/** Bytes after which a silent source counts as one that does not wait for the relay. */
const TELLING_BYTES = 64 * 1024;

export class Migration {
  readonly #location: MigrationContext;
  readonly #store: RelayStore | undefined;
  readonly #startedAt = new Date();
  readonly #since = performance.now();
  readonly #channels: Channel[] = [];
  readonly #onOver: (report: MigrationReport) => void;
  readonly #returnPath = new ReturnPathReader();
  readonly #clock = new FlowClock(() => performance.timeOrigin + performance.now());
  #follower: Follower | undefined;
  #copy: ShadowCopy | undefined;
  #handedOver = false;
  #estimate: Estimate = nothingKnown();
  #held = false;
  /** True once it has flowed: a stream that can be held only at its beginning no longer can be. */
  #begun = false;
  #released = false;
  #open = 0;
  #failure: Failure | undefined;
  #over = false;

  /**
   * @param store keeps its shadow, if one is wanted
   * @param onOver called once, when its last connection has closed
   */
  constructor(
    location: MigrationContext,
    store: RelayStore | undefined,
    onOver: (report: MigrationReport) => void,
  ) {
    this.#location = location;
    this.#store = store;
    this.#onOver = onOver;
    this.#clock.start();
  }

  get id(): string {
    return this.#location.id;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Tells whether a connection can belong to it: one main channel, and all in TLS or none. */
  fits(kind: ChannelKind): boolean {
    const has = (wanted: ChannelKind) => this.#channels.some((one) => one.kind === wanted);
    switch (kind) {
      case 'main':
        return this.#follower === undefined && !has('tls');
      case 'multifd':
        return !has('tls');
      case 'tls':
        return this.#follower === undefined && !has('multifd');
      case 'other':
        return true;
    }
  }

  /** Adds a connection that belongs to it, as far as is known. */
  join(channel: Channel): void {
    this.#channels.push(channel);
    this.#open++;
    faultPoint('relay/connected');
    if (this.#held) channel.up.hold();
  }

  /** Removes a connection whose first bytes show that it belongs to another migration. */
  leave(channel: Channel): void {
    this.#channels.splice(this.#channels.indexOf(channel), 1);
    this.#open--;
    if (this.#held) channel.up.free();
    this.#endIfClosed();
  }

  onKind(channel: Channel, kind: ChannelKind): void {
    if (kind !== 'main') {
      this.#copy?.lose(unreadable(kind));
      return;
    }
    const follower = new Follower();
    this.#follower = follower;
    faultPoint('relay/told');
    if (this.#store === undefined) return;
    this.#copy = new ShadowCopy(this.#store, this.#location.name, follower.sink, {
      onFull: (full) => (full ? channel.up.stop() : channel.up.go()),
    });
    if (this.#transport === 'parallel') this.#copy.lose(unreadable('multifd'));
    if (!this.#held) this.#copy.begin();
  }

  onSourceChunk(channel: Channel, chunk: Buffer): void {
    if (channel.kind !== 'main') return;
    // The copy reads the stream from its beginning: once it reads, one reader is enough.
    this.#handedOver ||= this.#copy?.sink !== undefined;
    if (!this.#handedOver) this.#follower?.write(chunk);
    this.#copy?.write(chunk);
    if (!this.#pages?.ramEnded) return;
    this.free();
    faultPoint('relay/ram-ended');
  }

  onSourceEnd(channel: Channel): void {
    if (channel.kind === 'main') this.#copy?.end();
  }

  onTargetChunk(channel: Channel, chunk: Buffer): void {
    if (channel.kind !== 'main') return;
    this.#returnPath.write(chunk);
    if (this.#returnPath.verdict !== undefined) faultPoint('relay/acknowledged');
  }

  onDead(failure: Failure): void {
    if (this.#returnPath.verdict !== 0) this.abort(failure);
  }

  onClosed(): void {
    this.#open--;
    this.#endIfClosed();
  }

  /** Ends it: the VM keeps running at the source. */
  abort(failure: Failure): void {
    this.#failure ??= failure;
    for (const channel of this.#channels) channel.die(failure);
  }

  /** Lets it wait for others. Without effect on a released one. */
  hold(): void {
    if (this.#held || this.#released) return;
    this.#held = true;
    this.#clock.note(false);
    for (const { up } of this.#channels) up.hold();
  }

  free(): void {
    this.#begun = true;
    this.#copy?.begin();
    this.#clock.note(true);
    if (!this.#held) return;
    this.#held = false;
    for (const { up } of this.#channels) up.free();
  }

  /**
   * Returns for how long a side has taken none of the bytes that wait for it, at most;
   * milliseconds.
   */
  stalledMs(now: number): number {
    return Math.max(0, ...this.#channels.map((channel) => channel.stalledMs(now)));
  }

  /** Updates the estimate and releases it if it must be. @returns the policy's view of it */
  tick(): Passing {
    const { seenPages = 0, totalPages = 0 } = this.#pages ?? {};
    const { normalPages = 0, zeroPages = 0 } =
      this.#copy?.counters ?? this.#follower?.counters ?? {};
    const now = performance.now();
    this.#estimate = estimate(this.#estimate, {
      atMs: now,
      bytes: this.#streamBytes,
      flowedMs: this.#clock.flowedMs,
      seenPages,
      totalPages,
      normalPages,
      zeroPages,
      passes: 1,
      passAtMs: this.#since,
      waits: false,
      keptBack: false,
      remainingBytes: undefined,
      passBytes: undefined,
      dirtyBytesPerSecond: undefined,
    });
    this.#released ||= this.#mustBeReleased();
    if (this.#released) this.free();
    return { released: this.#released, estimate: this.#estimate };
  }

  /** Returns true if the VM may be stopped by now, or if that could not be told. */
  #mustBeReleased(): boolean {
    if (this.#pages?.ramEnded || this.#estimate.firstPassDone) return true;
    const silent = this.#channels.every(({ up }) => up.isSilent);
    if (silent && this.#streamBytes >= TELLING_BYTES) return true;
    const known = this.#channels.some(({ kind }) => kind !== undefined);
    return this.#begun && known && !this.#countsPages;
  }

  /** Returns true while pages can be counted as they pass. */
  get #countsPages(): boolean {
    if (this.#transport !== 'single') return false;
    return this.#handedOver
      ? this.#copy?.sink !== undefined
      : this.#follower?.trouble === undefined;
  }

  get progress(): MigrationProgress {
    const { id: migration, name } = this.#location;
    const position = this.#position;
    const { streamBytes, ramBytes } = position;
    const elapsedMs = this.#clock.flowedMs;
    const share = shareOf(position);
    return {
      migration,
      name,
      state: this.#released ? 'released' : this.#held ? 'held' : 'flows',
      transport: this.#transport,
      streamBytes,
      ramBytes,
      share,
      bytesPerSecond: perSecond(streamBytes, elapsedMs),
      etaMs: etaOf(share, elapsedMs),
    };
  }

  /** Returns the sink of the main channel's reader: the copy once it reads, else the follower. */
  get #pages() {
    return this.#copy?.sink ?? this.#follower?.sink;
  }

  get #end(): End {
    return {
      verdict: this.#returnPath.verdict,
      failure: this.#failure,
      returnPathOpened: this.#follower?.sink.returnPathOpened === true,
    };
  }

  get #streamBytes(): number {
    return this.#channels.reduce((sum, { up }) => sum + up.bytes, 0);
  }

  get #position(): Position {
    const { totalPages = 0, seenPages = 0 } = this.#pages ?? {};
    const { pageSize = 0 } = this.#follower?.sink ?? {};
    return {
      streamBytes: this.#streamBytes,
      ramBytes: totalPages > 0 ? totalPages * pageSize : undefined,
      seenShare: this.#countsPages && totalPages > 0 ? seenPages / totalPages : undefined,
    };
  }

  get #transport(): Transport {
    const kinds = new Set(this.#channels.map(({ kind }) => kind));
    if (kinds.has('tls')) return 'encrypted';
    if (kinds.has('multifd')) return 'parallel';
    return kinds.has('main') ? 'single' : 'unknown';
  }

  #endIfClosed(): void {
    if (this.#open > 0 || this.#over) return;
    this.#over = true;
    void this.#settle().then((shadow) => this.#onOver(this.#report(shadow)));
  }

  /** Keeps the shadow, unless the migration failed or could not be read. */
  async #settle(): Promise<ShadowReport | undefined> {
    if (this.#store === undefined) return undefined;
    const { outcome, failure } = outcomeOf(this.#end);
    if (this.#copy === undefined) {
      return { kept: false, failure: unreadable(this.#channels[0]?.kind ?? 'other') };
    }
    const ended = { code: 'E_RELAY_SHADOW', message: `the migration ${outcome}` };
    return this.#copy.settle(outcome === 'failed' ? (failure ?? ended) : undefined);
  }

  #report(shadow: ShadowReport | undefined): MigrationReport {
    const durationMs = performance.now() - this.#since;
    const { streamBytes, ramBytes } = this.#position;
    const { machineType } = this.#follower?.sink ?? {};
    const { outcome, failure } = outcomeOf(this.#end);
    const returnBytes = this.#channels.reduce((sum, { down }) => sum + down.bytes, 0);
    const { id: migration, ...location } = this.#location;
    const { flowedMs } = this.#clock;
    return {
      migration,
      ...location,
      startedAt: this.#startedAt.toISOString(),
      durationMs,
      transport: this.#transport,
      outcome,
      ...(failure && { failure: UmbraError.received(failure).failure }),
      ...(ramBytes !== undefined && { ramBytes }),
      ...(machineType && { machineType }),
      streamBytes,
      returnBytes,
      bytesPerSecond: perSecond(streamBytes, flowedMs),
      channels: this.#channels.map(({ kind = 'other', up, down }) => {
        return { kind, streamBytes: up.bytes, returnBytes: down.bytes };
      }),
      heldMs: Math.max(0, durationMs - flowedMs),
      flow: this.#clock.end(),
      ...(shadow && { shadow }),
      notes: notesOf(this.#follower?.trouble, shadow),
    };
  }
}

function perSecond(bytes: number, ms: number): number {
  return ms > 0 ? Math.round((bytes / ms) * 1000) : 0;
}
