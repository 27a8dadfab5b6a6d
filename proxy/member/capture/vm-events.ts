/** What QEMU tells of itself in a round: the VM stops and runs, a pass begins, the migration fails. */
import type { QmpEvent } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isSwitchover } from '../qemu/run-state.ts';
import type { MemberRound } from './member-round.ts';
import type { CaptureMethod } from './method.ts';
import { LIVE, STOPPED, STOPPING } from './session.ts';

export class VmEvents {
  readonly #round: MemberRound;
  readonly #state: () => number;
  readonly #method: () => CaptureMethod | undefined;
  #stopKnown: Promise<void> = Promise.resolve();

  /** @param state of the session */
  constructor(round: MemberRound, state: () => number, method: () => CaptureMethod | undefined) {
    this.#round = round;
    this.#state = state;
    this.#method = method;
  }

  /** What it leads to may fail, as the journal on a full tmpfs does. That is the round's, not the monitor's. */
  take(event: QmpEvent): void {
    try {
      this.#take(event);
    } catch (error) {
      this.#round.failed(`event ${event.name}`, error);
    }
  }

  #take({ name, timestampUs, data }: QmpEvent): void {
    switch (name) {
      case 'STOP':
        this.#onStopped(timestampUs);
        break;
      case 'RESUME':
        this.#onResumed(timestampUs);
        break;
      case 'MIGRATION_PASS':
        this.#onPass(Number(data.pass));
        break;
      case 'MIGRATION':
        this.#onMigration(String(data.status));
        break;
    }
  }

  #onStopped(stoppedAtUs: number): void {
    const round = this.#round;
    const { intake, startedAt } = round;
    intake?.drain();
    round.stoppedAt = performance.now();
    const liveBytes = intake?.readBytes ?? 0;
    const liveMs = startedAt === 0 ? 0 : round.stoppedAt - startedAt;
    const flowedMs = intake?.clock.flowedMs ?? 0;
    const flow = intake?.clock.end() ?? [];
    round.addFacts({
      stoppedAtUs,
      liveBytes,
      liveMs,
      heldMs: Math.max(0, liveMs - flowedMs),
      flow,
    });
    if (round.stopAsked) this.#method()?.onStopped();
    else {
      this.#stopKnown = this.#whoStopped().catch((error: unknown) => round.failed('stop', error));
    }
  }

  #onResumed(resumedAtUs: number): void {
    const state = this.#state();
    this.#round.addFacts({ resumedAtUs });
    const standing = state === STOPPING || state === STOPPED;
    if (this.#method()?.onResumed(standing) === false) return;
    this.#round.noteStop(false);
    this.#round.handle({ type: 'vm-resumed' });
  }

  /**
   * Resolves when no stop is under way of which nobody knows whose it is. Ours comes after that: else the VM
   * would run again, by the round or its journal, though its operator has paused it.
   */
  stopKnown(): Promise<void> {
    return this.#stopKnown;
  }

  /** QEMU stops a VM to switch over; any other stop is its operator's, and none of our business. */
  async #whoStopped(): Promise<void> {
    const { status } = await this.#round.monitor.execute('query-status');
    if (isSwitchover(status)) {
      this.#round.handle({ type: 'vm-stopped' });
      return;
    }
    const message = `the VM was stopped by someone else (${status}); it is left so`;
    throw new UmbraError({ code: 'E_VM_PAUSED', message });
  }

  /** The first pass is done when the second begins. */
  #onPass(pass: number): void {
    this.#round.meter.onPass(pass);
    if (pass >= 2 && this.#state() === LIVE) this.#method()?.live?.onPass();
  }

  #onMigration(status: string): void {
    if (status !== 'failed' && status !== 'cancelled') return;
    const message = `QEMU reports its migration ${status}`;
    this.#round.failed('migration', new UmbraError({ code: 'E_MIGRATION_FAILED', message }));
  }
}
