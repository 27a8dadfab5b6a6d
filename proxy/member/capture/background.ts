/**
 * Background: the VM stands for an instant, and its memory is saved as it was then while it runs on.
 *
 *     frames held   hold frames ─▶ migrate ─▶ QEMU sets up, stops it, takes its state, lets it run: the cut
 *                   silent, for its frames are held ──▶ barrier ─▶ frames released
 *     all stopped   stop ─▶ migrate ─▶ QEMU sets up, takes its state: the cut
 *                   QEMU keeps it stopped (from 9.0 on) ─▶ barrier ─▶ (freeze disks) ─▶ cont
 *
 * Setting up (every page is touched once) and protecting memory take tens of milliseconds a gigabyte; with
 * frames held the VM stands for the latter alone. The first page in the stream is the sign of the cut. A
 * QEMU that lets a VM run which is neither stopped for good nor silent (7.2) fails the round.
 * From `migrate` on the stream is read to its end, whatever happens: see snapshot-end.ts.
 */
import { dirname } from 'node:path';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { thisProcess } from '../../host/known-process.ts';
import { type Disk, freezeDisks, writableDisks } from '../qemu/disks.ts';
import { holdFrames, netdevs, releaseFrames } from '../qemu/frame-hold.ts';
import { hasBalloon, type RamBlockInfo, ramBlocks } from '../qemu/memory.ts';
import { awaitMigrationEnd } from '../qemu/migration.ts';
import { makeRun, resumeStanding, stopVm } from '../qemu/run-state.ts';
import { GuestWaits } from './guest-waits.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import type { MemberRound } from './member-round.ts';
import type { CaptureMethod } from './method.ts';

export class BackgroundCapture implements CaptureMethod {
  readonly mode = 'background';
  readonly waits = true;
  readonly #round: MemberRound;
  /** Backends whose frames are held from before the cut until all have been cut (frame-hold.ts). */
  #held: readonly string[] = [];
  #holdsFrames = false;
  /** QEMU let the VM run on by itself after the cut, and we know of it. */
  #ranOn = false;
  #waits: GuestWaits | undefined;
  #blocks: readonly RamBlockInfo[] = [];
  #hasBalloon = false;

  constructor(round: MemberRound) {
    this.#round = round;
  }

  async open(): Promise<void> {
    await this.#round.setUp(true);
    await this.#round.receive(
      { keepBackPages: 0, mode: 'background' },
      {
        onConnected: () => this.#round.intake?.drain(),
        onFirstPage: () => {
          this.#waits?.start();
          this.#round.handle({ type: 'vm-stopped' });
        },
      },
    );
    this.#blocks = await ramBlocks(this.#round.monitor);
    this.#hasBalloon = await hasBalloon(this.#round.monitor);
    this.#waits = await GuestWaits.of(this.#round.monitor, this.#round.prepare.vm);
    this.#round.handle({ type: 'streaming' });
  }

  async stop(): Promise<void> {
    const { monitor, journal, prepare } = this.#round;
    const disks = await this.#disksToFreeze();
    if (prepare.cut === 'all-stopped') {
      this.#round.addFacts({ framesNotHeld: 'round.cut is all-stopped' });
    } else if (disks.length > 0) {
      this.#round.addFacts({
        framesNotHeld: 'its disks are snapshotted, for which it has to stand',
      });
    } else {
      await this.#holdFrames();
    }
    if (!this.#holdsFrames) await stopVm(monitor, prepare.stopDeadlineMs);
    this.#round.throwIfOver();
    if (prepare.vm !== undefined) journal.snapshot(prepare.vm, thisProcess());
    await this.#round.migrate();
  }

  async #disksToFreeze(): Promise<Disk[]> {
    const { monitor, prepare, facts } = this.#round;
    if (prepare.disks === 'leave' || facts.writableDisks === undefined) return [];
    return writableDisks(monitor, prepare.workingDirectory);
  }

  async #holdFrames(): Promise<void> {
    const { monitor, journal } = this.#round;
    const held = await netdevs(monitor);
    journal.hold(held);
    try {
      await holdFrames(monitor, held);
      this.#held = held;
      this.#holdsFrames = true;
    } catch (error) {
      await releaseFrames(monitor, held);
      if (this.#round.prepare.cut === 'frames-held') throw error;
      this.#round.addFacts({ framesNotHeld: toFailure(error, {}).message });
    }
  }

  /** Its state is not taken yet: the first page tells. */
  onStopped(): void {}

  onResumed(standing: boolean): boolean {
    if (!standing) return true;
    if (this.#holdsFrames) {
      this.#ranOn = true; // nobody hears of it before the barrier
      return false;
    }
    const message = this.#ranOnUnheld;
    this.#round.failed('barrier', new UmbraError({ code: 'E_RESUMED_EARLY', message }));
    return false;
  }

  /** By itself (7.2) or by someone: nobody can tell, and frames that are not held are why it matters. */
  get #ranOnUnheld(): string {
    const { framesNotHeld = 'its frames were not held' } = this.#round.facts;
    return `the VM ran on after its snapshot before it was to, and was not silent: ${framesNotHeld}; QEMU 7.2 lets it run by itself, else someone resumed it`;
  }

  async resume(): Promise<void> {
    const { monitor, prepare } = this.#round;
    const { stopDeadlineMs } = prepare;
    // What runs on in silence has been heard by nobody.
    if (!this.#holdsFrames) {
      const disks = await this.#disksToFreeze();
      this.#round.throwIfOver();
      if (disks.length > 0) {
        this.#round.addFacts({
          disks: await freezeDisks(monitor, disks, prepare.diskOwner, stopDeadlineMs),
        });
      }
      await resumeStanding(monitor, stopDeadlineMs, this.#ranOnUnheld);
    } else if (!this.#ranOn) await makeRun(monitor, stopDeadlineMs);
    await releaseFrames(monitor, this.#held);
    this.#round.addFacts({ cut: this.#holdsFrames ? 'frames-held' : 'all-stopped' });
    if (this.#holdsFrames) {
      this.#round.addFacts({ releasedAtUs: (performance.timeOrigin + performance.now()) * 1000 });
    }
    if (!this.#ranOn) return;
    this.#round.noteStop(false);
    this.#round.handle({ type: 'vm-resumed' });
  }

  async complete(): Promise<void> {
    const waitedShare = this.#waits?.end();
    if (waitedShare !== undefined) this.#round.addFacts({ waitedShare });
    await awaitMigrationEnd(this.#round.monitor, this.#round.prepare.stopDeadlineMs);
  }

  abandon(): Promise<void> | undefined {
    return this.#round.intake?.discard();
  }

  end(): void {
    this.#waits?.end();
  }

  get split(): SplitMemory | undefined {
    const { vm, hugePages: which, keepFreeBytes, spareDirectory } = this.#round.prepare;
    if (vm === undefined || which === 'leave') return undefined;
    const room = { directory: dirname(spareDirectory), keepFreeBytes };
    return { vm, which, hasBalloon: this.#hasBalloon, blocks: this.#blocks, room };
  }
}
