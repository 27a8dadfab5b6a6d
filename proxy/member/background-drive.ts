/**
 * Background: the VM stands for an instant, and its memory is saved as it was then while it runs on.
 *
 *     hold frames ─▶ stop ─▶ migrate ─▶ first page: its state is taken, that is the cut
 *
 *     (i)  QEMU keeps it stopped     barrier ─▶ cont ─▶ frames released
 *     (ii) QEMU lets it run at once  silent, for its frames are held ─▶ barrier ─▶ frames released
 *
 * Which one a QEMU does is seen when it does it: RESUME before the barrier (7.2), or not (10.0).
 * From `migrate` on the stream is read to its end, whatever happens: see snapshot-end.ts.
 */
import { isBroken } from '../broken.ts';
import { toFailure, UmbraError } from '../failure.ts';
import { thisProcess } from '../known-process.ts';
import type { Drive } from './drive.ts';
import { holdFrames, netdevs, releaseFrames } from './frame-hold.ts';
import type { MemberRound } from './member-round.ts';
import { awaitMigrationEnd, makeRun } from './qemu.ts';

export class BackgroundDrive implements Drive {
  readonly mode = 'background';
  readonly #round: MemberRound;
  /** Backends whose frames are held from before the cut until all have been cut (frame-hold.ts). */
  #held: readonly string[] = [];
  #holdsFrames = false;
  /** QEMU let the VM run on by itself after the cut. */
  #ranOn = false;

  constructor(round: MemberRound) {
    this.#round = round;
    round.meter.waits = true;
  }

  async open(): Promise<void> {
    await this.#round.setUp(true);
    await this.#round.receive(
      { keepBackPages: 0, mode: 'background' },
      {
        onConnected: () => this.#round.intake?.drain(),
        onFirstPage: () => this.#round.handle({ type: 'vm-stopped' }),
      },
    );
    this.#round.handle({ type: 'streaming' });
  }

  async stop(): Promise<void> {
    const { monitor, journal, prepare } = this.#round;
    await this.#holdFrames();
    await monitor.execute('stop');
    this.#round.lookUp();
    if (prepare.vm !== undefined) journal.snapshot(prepare.vm, thisProcess());
    await this.#round.migrate();
  }

  /** Before the VM stops: that takes milliseconds, and need not be among those it stands. */
  async #holdFrames(): Promise<void> {
    const { monitor, journal } = this.#round;
    const held = isBroken('hold') ? [] : await netdevs(monitor);
    journal.hold(held);
    try {
      await holdFrames(monitor, held);
      this.#held = held;
      this.#holdsFrames = true;
    } catch (error) {
      // All stop before any runs on, then, or the round fails: some QEMUs let them run by themselves.
      await releaseFrames(monitor, held);
      this.#round.learn({ framesNotHeld: toFailure(error, {}).message });
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
    this.#round.failed('barrier', runsOnUnheld(this.#round.facts.framesNotHeld));
    return false;
  }

  async resume(): Promise<void> {
    const { monitor, prepare } = this.#round;
    if (!this.#ranOn) await makeRun(monitor, prepare.stopDeadlineMs);
    await releaseFrames(monitor, this.#held);
    this.#round.learn({ protocol: this.#ranOn ? 'frames held' : 'all stopped' });
    if (!this.#ranOn) return;
    this.#round.noteStop(false);
    this.#round.learn({ releasedAtUs: (performance.timeOrigin + performance.now()) * 1000 });
    this.#round.handle({ type: 'vm-resumed' });
  }

  async complete(): Promise<void> {
    await awaitMigrationEnd(this.#round.monitor, this.#round.prepare.stopDeadlineMs);
  }

  abandon(): Promise<void> | undefined {
    return this.#round.intake?.discard();
  }

  end(): void {}
}

function runsOnUnheld(why = 'it was resumed by someone'): UmbraError {
  const message = `the VM ran on after its snapshot before all were cut, and was not silent: ${why}`;
  return new UmbraError({ code: 'E_RESUMED_EARLY', message });
}
