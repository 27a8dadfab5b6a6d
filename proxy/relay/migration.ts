/**
 * One migration that goes by: its connections, what can be read of it, and how it ended.
 *
 *     one connection       main, or TLS
 *     multifd              main and N multifd, each a connection; with TLS, 1 + N of TLS
 *
 * Its connections share one fate: when one dies before the destination has said that all is there, all
 * are reset, or QEMU waits for the others (7.2 for minutes). It is over when the last has closed.
 */
import type { Failure } from '../failure.ts';
import { ReturnPathReader } from '../stream/return-path-reader.ts';
import type { Channel } from './channel.ts';
import type { ChannelKind } from './classify.ts';
import { Follower } from './follower.ts';
import {
  etaOf,
  type MigrationProgress,
  type MigrationReport,
  type Outcome,
  type Position,
  shareOf,
  type Transport,
} from './report.ts';

export interface MigrationPlace {
  readonly id: string;
  readonly name: string;
  readonly listen: string;
  readonly to: string;
}

export class Migration {
  readonly #place: MigrationPlace;
  readonly #startedAt = new Date();
  readonly #since = performance.now();
  readonly #channels: Channel[] = [];
  readonly #onOver: (report: MigrationReport) => void;
  readonly #returnPath = new ReturnPathReader();
  #follower: Follower | undefined;
  #open = 0;
  #failure: Failure | undefined;
  #over = false;

  /** @param onOver called once, when its last connection has closed */
  constructor(place: MigrationPlace, onOver: (report: MigrationReport) => void) {
    this.#place = place;
    this.#onOver = onOver;
  }

  get id(): string {
    return this.#place.id;
  }

  get isOver(): boolean {
    return this.#over;
  }

  get hasMain(): boolean {
    return this.#follower !== undefined;
  }

  /** A connection that is this migration's, as far as can be told. */
  join(channel: Channel): void {
    this.#channels.push(channel);
    this.#open++;
  }

  /** Its first bytes have shown that it is another's. */
  leave(channel: Channel): void {
    this.#channels.splice(this.#channels.indexOf(channel), 1);
    this.#open--;
    this.#endIfClosed();
  }

  onKind(kind: ChannelKind): void {
    if (kind === 'main') this.#follower = new Follower();
  }

  onSourceChunk(channel: Channel, chunk: Buffer): void {
    if (channel.kind === 'main') this.#follower?.write(chunk);
  }

  onTargetChunk(channel: Channel, chunk: Buffer): void {
    if (channel.kind === 'main') this.#returnPath.write(chunk);
  }

  onDead(failure: Failure): void {
    if (this.#returnPath.verdict === 0) return;
    this.#failure ??= failure;
    for (const channel of this.#channels) channel.die(failure);
  }

  onClosed(): void {
    this.#open--;
    this.#endIfClosed();
  }

  /** Ends it: the source's VM runs on. */
  abort(failure: Failure): void {
    this.#failure ??= failure;
    for (const channel of this.#channels) channel.die(failure);
  }

  /** For how long the side that is to take bytes has taken none, milliseconds; the longest counts. */
  stalledMs(now: number): number {
    return Math.max(0, ...this.#channels.map((channel) => channel.stalledMs(now)));
  }

  get progress(): MigrationProgress {
    const { id: migration, name } = this.#place;
    const position = this.#position;
    const { streamBytes, ramBytes } = position;
    const elapsedMs = performance.now() - this.#since;
    const share = shareOf(position);
    return {
      migration,
      name,
      transport: this.#transport,
      streamBytes,
      ramBytes,
      share,
      bytesPerSecond: perSecond(streamBytes, elapsedMs),
      etaMs: etaOf(share, elapsedMs),
    };
  }

  get #position(): Position {
    const streamBytes = this.#channels.reduce((sum, { up }) => sum + up.bytes, 0);
    const { totalPages = 0, seenPages = 0, ramBytes = 0 } = this.#follower?.sink ?? {};
    const readable = totalPages > 0 && this.#follower?.trouble === undefined;
    const tells = readable && this.#transport === 'single';
    return {
      streamBytes,
      ramBytes: ramBytes > 0 ? ramBytes : undefined,
      seenShare: tells ? seenPages / totalPages : undefined,
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
    this.#onOver(this.#report());
  }

  #report(): MigrationReport {
    const durationMs = performance.now() - this.#since;
    const { streamBytes, ramBytes } = this.#position;
    const { machineType } = this.#follower?.sink ?? {};
    const { outcome, failure } = this.#outcome();
    const returnBytes = this.#channels.reduce((sum, { down }) => sum + down.bytes, 0);
    const { id: migration, ...place } = this.#place;
    return {
      migration,
      ...place,
      startedAt: this.#startedAt.toISOString(),
      durationMs,
      transport: this.#transport,
      outcome,
      ...(failure && { failure }),
      ...(ramBytes !== undefined && { ramBytes }),
      ...(machineType && { machineType }),
      streamBytes,
      returnBytes,
      bytesPerSecond: perSecond(streamBytes, durationMs),
      channels: this.#channels.map(({ kind = 'other', up, down }) => {
        return { kind, streamBytes: up.bytes, returnBytes: down.bytes };
      }),
      notes: this.#notes(),
    };
  }

  #outcome(): { readonly outcome: Outcome; readonly failure?: Failure } {
    const { verdict } = this.#returnPath;
    if (verdict === 0) return { outcome: 'completed' };
    if (this.#failure !== undefined) return { outcome: 'failed', failure: this.#failure };
    if (verdict !== undefined) {
      const message = `the destination could not load the VM (status ${verdict})`;
      return { outcome: 'failed', failure: { code: 'E_RELAY_REFUSED', message } };
    }
    if (this.#follower?.sink.returnPathOpened) {
      const message = 'it was ended before the destination had said that all is there';
      return { outcome: 'failed', failure: { code: 'E_RELAY_CANCELLED', message } };
    }
    return { outcome: 'closed' };
  }

  #notes(): string[] {
    const { trouble } = this.#follower ?? {};
    return trouble === undefined ? [] : [`the stream could not be followed: ${trouble}`];
  }
}

function perSecond(bytes: number, ms: number): number {
  return ms > 0 ? Math.round((bytes / ms) * 1000) : 0;
}
