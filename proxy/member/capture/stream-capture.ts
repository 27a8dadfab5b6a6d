/**
 * Captures by QEMU's migration stream, which arrives at a socket of this proxy (intake/). What the
 * three captures by stream share.
 *
 * A VM that is to be tracked from this epoch on is watched before the stream begins, and what was
 * written before the stop is forgotten then: it is in the stream.
 */

import { UmbraError } from '../../failure/failure.ts';
import { memberFile } from '../../host/folders.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import { type IntakeLimits, type StreamFigures, StreamIntake } from '../../intake/stream-intake.ts';
import type { RamBlockInfo } from '../qemu/memory.ts';
import { Tracking } from '../tracking/tracking.ts';
import { CaptureMethod } from './method.ts';
import { type LiveFacts, type MemberRound, NO_LIVE_PHASE, type Ready } from './stages.ts';
import { whyStreamEnded } from './stream-end.ts';
import type { TrackingStart } from './tracked-support.ts';

export abstract class StreamCapture extends CaptureMethod {
  readonly intake: StreamIntake;
  /** Tracking that begins with this capture. */
  #tracking: Tracking | undefined;
  #live: LiveFacts = NO_LIVE_PHASE;

  constructor(
    round: MemberRound,
    ready: Ready,
    limits: Pick<IntakeLimits, 'keepBackPages' | 'mode'>,
  ) {
    super(round, ready);
    const { memoryBound, inFlightBytes } = round.prepare;
    this.intake = new StreamIntake(
      ready.shadow,
      { liveLimitBytes: memoryBound * ready.reservedBytes, inFlightBytes, ...limits },
      {
        onConnected: () => this.onConnected(),
        onFirstPage: () => this.onFirstPage(),
        onKeptBack: () => this.onKeptBack(),
        onAllSeen: () => this.onAllSeen(),
        onWhole: (result) => void this.onWhole(result),
        onError: (error) => void this.#onStreamError(error),
      },
    );
  }

  override start(): void {
    super.start();
    this.intake.clock.start();
  }

  override drain(): LiveFacts {
    this.intake.drain();
    this.#tracking?.forget();
    const liveMs = this.endLivePhase();
    const { flowedMs } = this.intake.clock;
    const heldMs = Math.max(0, liveMs - flowedMs);
    const flow = this.intake.clock.end();
    this.#live = { liveBytes: this.intake.readBytes, liveMs, heldMs, flow };
    return this.#live;
  }

  override sealed(): void {
    this.#tracking?.ledger.pend(this.prepare.round);
  }

  override committed(): void {
    this.#tracking?.ledger.commit();
  }

  override end(): void {
    this.#tracking?.close();
    this.#tracking = undefined;
  }

  override slot(open: boolean): void {
    this.intake.slot(open);
  }

  override vote(): void {
    this.intake.vote();
  }

  override close(): void {
    this.intake.close();
  }

  override get figures(): StreamFigures {
    return this.intake.figures;
  }

  override get readBytes(): number {
    return this.intake.readBytes;
  }

  override get liveBytes(): number {
    return this.#live.liveBytes;
  }

  override async identify() {
    const { name = '' } = await this.monitor.execute('query-name');
    const { UUID: uuid } = await this.monitor.execute('query-uuid');
    return { machineType: this.intake.sink.machineType, name, uuid };
  }

  /** Leaves XBZRLE pages out: QEMU also counts those it looked at and found unchanged. */
  override async requireAccounting(): Promise<void> {
    const { ram } = await this.monitor.execute('query-migrate');
    if (ram === undefined) return;
    const { normalPages, zeroPages } = this.intake.counters;
    if (ram.normal === normalPages && ram.duplicate === zeroPages) return;
    throw new UmbraError({
      code: 'E_ACCOUNTING',
      message:
        `QEMU sent ${ram.normal} normal and ${ram.duplicate} zero pages, ` +
        `but ${normalPages} and ${zeroPages} arrived`,
    });
  }

  /** Handles QEMU's connection. A stopped VM is never kept waiting. */
  protected onConnected(): void {
    this.intake.drain();
  }

  protected onFirstPage(): void {}

  protected onKeptBack(): void {}

  protected onAllSeen(): void {}

  /** Handles the whole stream. Never rejects. */
  protected async onWhole(result: StreamResult): Promise<void> {
    this.tellStreamed(result, performance.now());
  }

  /** Tells the session. @param at when the last byte was read, by performance.now() */
  protected tellStreamed(result: StreamResult, at: number): void {
    const { counters, sink } = this.intake;
    const repeatedPages = counters.normalPages + counters.zeroPages - sink.seenPages;
    this.tellWhole(result, at, Math.max(0, repeatedPages));
  }

  protected async listen(): Promise<void> {
    await this.intake.listen(this.#socket);
    this.round.throwIfOver();
  }

  /** Begins to track the VM, if that is wanted. What cannot be tracked is captured all the same. */
  protected beginTracking(): void {
    const { begins } = this.ready;
    if (begins === undefined) return;
    const { tracked, blocks, withKvm } = begins;
    try {
      this.#tracking = Tracking.adopt(tracked, asListed(blocks));
      if (this.#tracking === undefined) this.#tracking = Tracking.begin(tracked, blocks, withKvm);
      else this.#tracking.forget();
    } catch (error) {
      this.round.addFacts({ notTracked: (error as Error).message });
    }
  }

  protected async migrate(): Promise<void> {
    await this.monitor.execute('migrate', { uri: `unix:${this.#socket}` });
  }

  get #socket(): string {
    return memberFile(this.round.location.directory, 'migration');
  }

  /** Fails the round with the cause, which may be QEMU's. Never rejects. */
  async #onStreamError(error: unknown): Promise<void> {
    this.round.failed('stream', await whyStreamEnded(error, this.monitor));
  }
}

/** Returns blocks as QEMU lists them. */
function asListed(blocks: TrackingStart['blocks']): RamBlockInfo[] {
  return blocks.map(({ idstr, bytes: length, address }) => {
    return { idstr, length, ...(address !== undefined && { address }) };
  });
}
