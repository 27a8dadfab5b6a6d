/**
 * Captures a member's state, from a QEMU that is set up to a VM that runs again. Subclasses are the
 * captures; what is here is what all of them share. The session says when (session.ts), and the
 * enactor calls (capture.ts).
 *
 *                  tracked              precopy          stop-copy   background
 *     running      pages are read       memory streams   –           –
 *     stopped      the rest; its state  the drain        all of it   its state; frames are held
 *     resumed      –                    –                –           memory, as at the cut
 *
 *     CaptureMethod ◀── TrackedCapture    reads QEMU's memory (tracked.ts)
 *                   ◀── StreamCapture     receives QEMU's migration stream (stream-capture.ts)
 *                         ◀── PrecopyCapture, StopCopyCapture, BackgroundCapture
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { Identity } from '../../../shadow/index.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import type { StreamFigures } from '../../intake/stream-intake.ts';
import type { CaptureMode, PrepareCommand } from '../../protocol/member.ts';
import { freezeDisks, writableDisks } from '../qemu/disks.ts';
import { resumeStanding } from '../qemu/run-state.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import type { LiveFacts, MemberRound, Ready, WholeFacts } from './stages.ts';

export abstract class CaptureMethod {
  abstract readonly mode: CaptureMode;
  /** The member has no live phase: its memory is sent only once it is stopped. */
  abstract readonly waits: boolean;
  readonly ready: Ready;
  protected readonly round: MemberRound;
  /** The time the live phase began and the time the VM stopped, by performance.now(). */
  #startedAt: number | undefined;
  #stoppedAt: number | undefined;

  constructor(round: MemberRound, ready: Ready) {
    this.round = round;
    this.ready = ready;
  }

  /** Ends with a stream, or ready for one, and tells the session so. */
  abstract begin(): Promise<void>;

  /** Stops the VM, or has QEMU stop it. */
  abstract stop(): Promise<void>;

  /** Bytes that have been captured up to now. */
  abstract get readBytes(): number;

  /** Bytes that were captured before the VM stopped. */
  abstract get liveBytes(): number;

  abstract get figures(): StreamFigures;

  /** Returns facts of QEMU that stay as long as it runs. */
  abstract identify(): Promise<Pick<Identity, 'machineType' | 'name' | 'uuid'>>;

  /** Opens or closes the member's slot. */
  abstract slot(open: boolean): void;

  /** Lets QEMU end: all that it has sent has arrived. */
  abstract vote(): void;

  /** Receives nothing more. Idempotent. */
  abstract close(): void;

  /**
   * Captures all that is left, or begins to, for the VM has stopped.
   * @returns facts of the live phase
   */
  abstract drain(): LiveFacts;

  /**
   * Requires that what arrived is what QEMU says it sent.
   * @throws UmbraError E_ACCOUNTING
   */
  abstract requireAccounting(): Promise<void>;

  /** Resumes a VM that is stopped at the barrier. */
  async resume(): Promise<void> {
    await resumeStanding(this.monitor, this.prepare.stopDeadlineMs);
  }

  /** Begins the live phase. */
  start(): void {
    this.#startedAt = performance.now();
  }

  /** Samples. Called from time to time while the member is live. */
  async onTick(): Promise<void> {
    this.round.sampleLive();
  }

  /** Handles that QEMU begins another pass over dirty memory while the member is live. */
  onPass(): void {}

  /** Makes ready for the end of the live phase, which is near. */
  closeIn(): void {}

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
   * Ends the capture, for the round is over for this member and its VM is about to be repaired.
   * @returns settles when a stream that must not be broken off has ended; undefined if it may be
   */
  abandon(): Promise<void> | undefined {
    this.close(); // it unblocks the monitor of a stopped VM
    return undefined;
  }

  /** Notes that the shadow is sealed, and that its round was committed. */
  sealed(): void {}
  committed(): void {}

  /** Ends all that is done to QEMU. Idempotent. */
  end(): void {}

  /** Returns memory whose huge pages this capture has split; undefined if there is none. */
  get split(): SplitMemory | undefined {
    return undefined;
  }

  protected get monitor(): QmpClient {
    return this.ready.monitor;
  }

  protected get prepare(): PrepareCommand {
    return this.round.prepare;
  }

  /** Freezes the disks that are part of the epoch. The VM must stand. @throws UmbraError */
  protected async freezeDisks(): Promise<void> {
    const { disks: mode, workingDirectory, diskOwner, stopDeadlineMs } = this.prepare;
    if (mode === 'leave' || this.ready.writableDisks.length === 0) return;
    const disks = await writableDisks(this.monitor, workingDirectory);
    this.round.throwIfOver();
    if (disks.length === 0) return;
    const frozen = await freezeDisks(this.monitor, disks, diskOwner, stopDeadlineMs);
    this.round.addFacts({ disks: frozen });
  }

  /** Notes that the VM has stopped. @returns milliseconds of the live phase */
  protected endLivePhase(): number {
    this.#stoppedAt = performance.now();
    return this.#startedAt === undefined ? 0 : this.#stoppedAt - this.#startedAt;
  }

  /**
   * Tells the session that all is captured.
   * @param at when the last byte was read, by performance.now()
   */
  protected tellWhole(result: StreamResult, at: number, repeatedPages: number): void {
    const drainMs = this.#stoppedAt === undefined ? 0 : at - this.#stoppedAt;
    const { passes } = this.round.meter;
    const facts: WholeFacts = { drainMs, passes, repeatedPages };
    this.round.addFacts(facts);
    this.round.whole(result);
  }
}
