/**
 * Handles QEMU's events in a round:
 *
 *     STOP ───────────┬─ asked for by the round ──▶ CaptureMethod.onStopped ──▶ session
 *                     └─ not asked for ──▶ query-status ─┬─ switchover ──▶ session
 *                                                        └─ else: the operator's ──▶ E_VM_PAUSED
 *     RESUME ─────────▶ CaptureMethod.onResumed ──▶ session
 *     MIGRATION_PASS ─▶ CaptureMethod.onPass
 *     MIGRATION ──────▶ failed or cancelled: E_MIGRATION_FAILED
 */
import type { QmpClient, QmpEvent } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isSwitchover } from '../qemu/run-state.ts';
import { LIVE, STOPPED, STOPPING } from './session.ts';
import { type MemberRound, NO_LIVE_PHASE } from './stages.ts';

export class VmEvents {
  readonly #round: MemberRound;
  readonly #monitor: Pick<QmpClient, 'execute'>;
  #stopKnown: Promise<void> = Promise.resolve();

  constructor(round: MemberRound, monitor: Pick<QmpClient, 'execute'>) {
    this.#round = round;
    this.#monitor = monitor;
  }

  /**
   * Takes an event. What it leads to may fail, as the journal on a full tmpfs does: that fails the
   * round, not the monitor.
   */
  take(event: QmpEvent): void {
    try {
      this.#take(event);
    } catch (error) {
      this.#round.failed(`event ${event.name}`, error);
    }
  }

  /**
   * Waits while a stop is under way whose origin is not known. The round stops the VM only after
   * that: else the round, or its journal, would resume a VM that its operator has paused.
   */
  stopKnown(): Promise<void> {
    return this.#stopKnown;
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
    const live = round.method?.drain() ?? NO_LIVE_PHASE;
    round.addFacts({ stoppedAtUs, ...live });
    if (round.stopAsked) round.method?.onStopped();
    else
      this.#stopKnown = this.#findOrigin().catch((error: unknown) => round.failed('stop', error));
  }

  #onResumed(resumedAtUs: number): void {
    const round = this.#round;
    const standing = round.state === STOPPING || round.state === STOPPED;
    round.addFacts({ resumedAtUs });
    if (round.method?.onResumed(standing) === false) return;
    round.noteStop(false);
    round.handle({ type: 'vm-resumed' });
  }

  /** Finds out whether QEMU has stopped the VM to switch over. Any other stop is left alone. */
  async #findOrigin(): Promise<void> {
    const { status } = await this.#monitor.execute('query-status');
    if (isSwitchover(status)) {
      this.#round.handle({ type: 'vm-stopped' });
      return;
    }
    const message = `the VM was stopped from outside the round (${status}); it is left stopped`;
    throw new UmbraError({ code: 'E_VM_PAUSED', message });
  }

  /** Notes a pass. The first pass is over when the second begins. */
  #onPass(pass: number): void {
    if (!Number.isInteger(pass)) return; // virsh has printed the event without its data
    const { meter, method, state } = this.#round;
    meter.onPass(pass);
    if (pass >= 2 && state === LIVE) method?.onPass();
  }

  #onMigration(status: string): void {
    if (status !== 'failed' && status !== 'cancelled') return;
    const message = `QEMU reports its migration ${status}`;
    this.#round.failed('migration', new UmbraError({ code: 'E_MIGRATION_FAILED', message }));
  }
}
