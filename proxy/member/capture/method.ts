/**
 * Captures a member's state, from a QEMU that is set up to a VM that runs again. Subclasses are the
 * captures; what is here is what most of them share. The session says when (session.ts), and the
 * enactor calls (capture.ts).
 *
 *                       precopy               stop-copy          background
 *     before the stop   memory streams        –                  –
 *     stop              the drain             all of it          its state; frames are held first
 *     after the resume  –                     –                  memory, as it was at the cut
 */
import type { QmpClient } from '../../../qmp/index.ts';
import { memberFile } from '../../host/folders.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import { type IntakeLimits, StreamIntake } from '../../intake/stream-intake.ts';
import type { CaptureMode, PrepareCommand } from '../../protocol/member.ts';
import { resumeStanding } from '../qemu/run-state.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import {
  type LiveFacts,
  type MemberRound,
  NO_LIVE_PHASE,
  type Ready,
  type WholeFacts,
} from './stages.ts';
import { whyStreamEnded } from './stream-end.ts';

export abstract class CaptureMethod {
  abstract readonly mode: CaptureMode;
  /** The member has no live phase: its memory is sent only once it is stopped. */
  abstract readonly waits: boolean;
  readonly ready: Ready;
  readonly intake: StreamIntake;
  protected readonly round: MemberRound;
  /** The time the stream was let flow and the time the VM stopped, by performance.now(). */
  #startedAt: number | undefined;
  #stoppedAt: number | undefined;
  #live: LiveFacts = NO_LIVE_PHASE;

  constructor(
    round: MemberRound,
    ready: Ready,
    limits: Pick<IntakeLimits, 'keepBackPages' | 'mode'>,
  ) {
    this.round = round;
    this.ready = ready;
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

  /** Ends with a stream, or ready for one, and tells the session so. */
  abstract begin(): Promise<void>;

  /** Stops the VM, or has QEMU stop it. */
  abstract stop(): Promise<void>;

  /** Resumes a VM that is stopped at the barrier. */
  async resume(): Promise<void> {
    await resumeStanding(this.monitor, this.prepare.stopDeadlineMs);
  }

  /** Begins the live phase. */
  start(): void {
    this.#startedAt = performance.now();
    this.intake.clock.start();
  }

  /** Samples. Called from time to time while the member is live. */
  async onTick(): Promise<void> {
    this.round.sampleLive();
  }

  /** Handles that QEMU begins another pass over dirty memory while the member is live. */
  onPass(): void {}

  /** Makes ready for the end of the live phase, which is near. */
  closeIn(): void {}

  /**
   * Reads all that is left of the stream, for the VM has stopped.
   * @returns facts of the live phase
   */
  drain(): LiveFacts {
    this.intake.drain();
    const now = performance.now();
    this.#stoppedAt = now;
    const liveMs = this.#startedAt === undefined ? 0 : now - this.#startedAt;
    const { flowedMs } = this.intake.clock;
    const heldMs = Math.max(0, liveMs - flowedMs);
    const flow = this.intake.clock.end();
    this.#live = { liveBytes: this.intake.readBytes, liveMs, heldMs, flow };
    return this.#live;
  }

  /** Handles QEMU's STOP, which this round has asked for. */
  onStopped(): void {
    this.round.handle({ type: 'vm-stopped' });
  }

  /**
   * Handles QEMU's RESUME.
   * @param _standing the VM is to be stopped at this time
   * @returns false if the session is not to be told
   */
  onResumed(_standing: boolean): boolean {
    return true;
  }

  /** Waits until QEMU has ended a migration whose stream is whole. */
  async complete(): Promise<void> {}

  /**
   * Ends the stream, for the round is over for this member and its VM is about to be repaired.
   * @returns settles when a stream that must not be broken off has ended; undefined if it may be
   */
  abandon(): Promise<void> | undefined {
    this.intake.close(); // it unblocks the monitor of a stopped VM
    return undefined;
  }

  /** Ends all that is done to QEMU. Idempotent. */
  end(): void {}

  /** Returns memory whose huge pages this capture has split; undefined if there is none. */
  get split(): SplitMemory | undefined {
    return undefined;
  }

  /** Returns the bytes that were read before the VM stopped. */
  get liveBytes(): number {
    return this.#live.liveBytes;
  }

  protected get monitor(): QmpClient {
    return this.ready.monitor;
  }

  protected get prepare(): PrepareCommand {
    return this.round.prepare;
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
    this.tellWhole(result, performance.now());
  }

  protected async listen(): Promise<void> {
    await this.intake.listen(this.#socket);
    this.round.throwIfOver();
  }

  protected async migrate(): Promise<void> {
    await this.monitor.execute('migrate', { uri: `unix:${this.#socket}` });
  }

  /** Tells the session. @param at when the last byte was read, by performance.now() */
  protected tellWhole(result: StreamResult, at: number): void {
    const drainMs = this.#stoppedAt === undefined ? 0 : at - this.#stoppedAt;
    const { counters, sink } = this.intake;
    const repeatedPages = counters.normalPages + counters.zeroPages - sink.seenPages;
    const { passes } = this.round.meter;
    const facts: WholeFacts = { drainMs, passes, repeatedPages: Math.max(0, repeatedPages) };
    this.round.addFacts(facts);
    this.round.whole(result);
  }

  get #socket(): string {
    return memberFile(this.round.location.directory, 'migration');
  }

  /** Fails the round with the cause, which may be QEMU's. Never rejects. */
  async #onStreamError(error: unknown): Promise<void> {
    this.round.failed('stream', await whyStreamEnded(error, this.monitor));
  }
}
