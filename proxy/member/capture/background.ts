/**
 * Captures in the background: the VM stops for an instant, and its memory is saved as it was then
 * while it runs again.
 *
 *     frames held   hold frames ─▶ migrate ─▶ QEMU sets up, stops it, takes its state, resumes it:
 *                   the cut; it is silent, for its frames are held ──▶ barrier ─▶ frames released
 *     all stopped   stop ─▶ migrate ─▶ QEMU sets up, takes its state: the cut
 *                   QEMU keeps it stopped (from 9.0 on) ─▶ barrier ─▶ (freeze disks) ─▶ cont
 *
 * Setting up (every page is touched once) and protecting memory take tens of milliseconds a
 * gigabyte. With frames held, the VM is stopped for the latter alone. The first page in the stream
 * is the sign of the cut. A QEMU that resumes a VM which is neither to stay stopped nor silent
 * (7.2) fails the round. From `migrate` on, the stream is read to its end, whatever happens: see
 * ../repair/snapshot-end.ts.
 */
import { dirname } from 'node:path';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { thisProcess } from '../../host/known-process.ts';
import { type Disk, writableDisks } from '../qemu/disks.ts';
import { holdFrames, netdevs, releaseFrames } from '../qemu/frame-hold.ts';
import { hasBalloon, type RamBlockInfo, ramBlocks } from '../qemu/memory.ts';
import { awaitMigrationEnd } from '../qemu/migration.ts';
import { makeRun, resumeStanding, stopVm } from '../qemu/run-state.ts';
import { GuestWaits } from './guest-waits.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import type { MemberRound, Ready } from './stages.ts';
import { StreamCapture } from './stream-capture.ts';

export class BackgroundCapture extends StreamCapture {
  readonly mode = 'background';
  readonly waits = true;
  /** Backends whose frames are held from before the cut until all have been cut (frame-hold.ts). */
  #held: readonly string[] = [];
  #holdsFrames = false;
  /** QEMU has resumed the VM by itself after the cut, and its event has arrived. */
  #ranOn = false;
  #waits: GuestWaits | undefined;
  #blocks: readonly RamBlockInfo[] = [];
  #hasBalloon = false;

  constructor(round: MemberRound, ready: Ready) {
    super(round, ready, { keepBackPages: 0, mode: 'background' });
  }

  override async begin(): Promise<void> {
    await this.listen();
    this.#blocks = await ramBlocks(this.monitor);
    this.#hasBalloon = await hasBalloon(this.monitor);
    this.#waits = await GuestWaits.of(this.monitor, this.prepare.vm);
    this.round.handle({ type: 'streaming' });
  }

  /** Takes the cut: QEMU sends memory only after it has taken the VM's state. */
  protected override onFirstPage(): void {
    this.#waits?.start();
    this.round.handle({ type: 'vm-stopped' });
  }

  override async stop(): Promise<void> {
    const { monitor, prepare } = this;
    const disks = await this.#disksToFreeze();
    if (prepare.cut === 'all-stopped') {
      this.round.addFacts({ framesNotHeld: 'round.cut is all-stopped' });
    } else if (disks.length > 0) {
      const framesNotHeld = 'its disks are snapshotted, for which it has to be stopped';
      this.round.addFacts({ framesNotHeld });
    } else {
      await this.#holdFrames();
    }
    if (!this.#holdsFrames) await stopVm(monitor, prepare.stopDeadlineMs);
    this.round.throwIfOver();
    if (prepare.vm !== undefined) this.round.journal.snapshot(prepare.vm, thisProcess());
    await this.migrate();
  }

  async #disksToFreeze(): Promise<Disk[]> {
    const { disks, workingDirectory } = this.prepare;
    if (disks === 'leave' || this.ready.writableDisks.length === 0) return [];
    return writableDisks(this.monitor, workingDirectory);
  }

  async #holdFrames(): Promise<void> {
    const { monitor, round } = this;
    const held = await netdevs(monitor);
    round.journal.hold(held);
    try {
      await holdFrames(monitor, held);
      this.#held = held;
      this.#holdsFrames = true;
    } catch (error) {
      await releaseFrames(monitor, held);
      if (this.prepare.cut === 'frames-held') throw error;
      round.addFacts({ framesNotHeld: toFailure(error, {}).message });
    }
  }

  /** Ignores the stop: the VM's state is not taken yet. The first page tells that it is. */
  override onStopped(): void {}

  override onResumed(standing: boolean): boolean {
    if (!standing) return true;
    if (this.#holdsFrames) {
      this.#ranOn = true; // no other VM hears of it before the barrier
      return false;
    }
    const message = this.#ranOnUnheld;
    this.round.failed('barrier', new UmbraError({ code: 'E_RESUMED_EARLY', message }));
    return false;
  }

  /**
   * Returns the message for a VM that was resumed before the barrier. Umbra cannot tell whether
   * QEMU did that (7.2) or an operator. It matters because frames are not held.
   */
  get #ranOnUnheld(): string {
    const { framesNotHeld = 'its frames were not held' } = this.round.facts;
    return (
      `the VM resumed before the barrier, and its frames were not held: ${framesNotHeld}; ` +
      'QEMU 7.2 resumes it by itself, else it was resumed from outside Umbra'
    );
  }

  override async resume(): Promise<void> {
    const { monitor, round } = this;
    const { stopDeadlineMs } = this.prepare;
    // A VM that runs on with its frames held has been heard by no other.
    if (!this.#holdsFrames) {
      await this.freezeDisks();
      round.throwIfOver();
      await resumeStanding(monitor, stopDeadlineMs, this.#ranOnUnheld);
    } else if (!this.#ranOn) await makeRun(monitor, stopDeadlineMs);
    await releaseFrames(monitor, this.#held);
    round.addFacts({ cut: this.#holdsFrames ? 'frames-held' : 'all-stopped' });
    if (this.#holdsFrames) {
      round.addFacts({ releasedAtUs: (performance.timeOrigin + performance.now()) * 1000 });
    }
    if (!this.#ranOn) return;
    round.noteStop(false);
    round.handle({ type: 'vm-resumed' });
  }

  override async complete(): Promise<void> {
    const waitedShare = this.#waits?.end();
    if (waitedShare !== undefined) this.round.addFacts({ waitedShare });
    await awaitMigrationEnd(this.monitor, this.prepare.stopDeadlineMs);
  }

  /** Reads the stream to its end: a background snapshot must not be broken off. */
  override abandon(): Promise<void> {
    return this.intake.discard();
  }

  override end(): void {
    super.end();
    this.#waits?.end();
  }

  override get split(): SplitMemory | undefined {
    const { vm, hugePages: which, keepFreeBytes, spareDirectory } = this.prepare;
    if (vm === undefined || which === 'leave') return undefined;
    const room = { directory: dirname(spareDirectory), keepFreeBytes };
    return { vm, which, hasBalloon: this.#hasBalloon, blocks: this.#blocks, room };
  }
}
