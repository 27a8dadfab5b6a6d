/** Enacts the pacing of proxy/intake/pacing.ts: timers, QEMU's answers, and what QEMU is told. */
import type { QmpClient } from '../../../qmp/index.ts';
import {
  newPacing,
  type PacingAction,
  type PacingEvent,
  type Pacing as PacingState,
  step,
} from '../../intake/pacing.ts';
import type { StreamIntake } from '../../intake/stream-intake.ts';
import { trickle } from '../qemu/migration-settings.ts';
import type { LiveMeter } from './live-meter.ts';

export class Pacing {
  readonly #qmp: QmpClient;
  readonly #intake: Pick<StreamIntake, 'pace'>;
  readonly #meter: LiveMeter;
  #state: PacingState;
  #rest: NodeJS.Timeout | undefined;
  #asking: Promise<void> | undefined;
  #sample: () => void = () => {};

  /** @param canTrickle QEMU looks for dirty pages even when it is slowed (since 8.2) */
  constructor(
    qmp: QmpClient,
    intake: Pick<StreamIntake, 'pace'>,
    meter: LiveMeter,
    canTrickle: boolean,
  ) {
    this.#qmp = qmp;
    this.#intake = intake;
    this.#meter = meter;
    this.#state = newPacing(canTrickle);
  }

  /** Takes the beginning of a pass after the first. @param sample called when QEMU has answered */
  onPass(sample: () => void): void {
    this.#sample = sample;
    this.#handle({ type: 'pass' });
  }

  /** Takes the end of the first pass: its last page has been read. */
  onAllSeen(): void {
    this.#handle({ type: 'all-seen' });
  }

  /** Slows QEMU down, for its stream is held near the end of the first pass. */
  keepBack(): void {
    this.#handle({ type: 'kept-back' });
  }

  /** Asks QEMU what is left, and paces accordingly. Never rejects. */
  async onTick(): Promise<void> {
    await this.#ask();
    this.#handle({ type: 'news', remainingBytes: this.#meter.remainingBytes ?? 0 });
  }

  /** Makes ready for the end of the live phase: little is to be left when it comes. */
  closeIn(): void {
    this.#handle({ type: 'close-in' });
  }

  /** Ends pacing: nothing more is done to QEMU. Idempotent. */
  end(): void {
    this.#handle({ type: 'end' });
  }

  #handle(event: PacingEvent): void {
    const { pacing, actions } = step(this.#state, event);
    this.#state = pacing;
    for (const action of actions) this.#enact(action);
  }

  #enact(action: PacingAction): void {
    switch (action.type) {
      case 'pace':
        this.#intake.pace(action.rests);
        break;
      case 'ask':
        void this.#ask().then(() => {
          const { passBytes, dirtyRate } = this.#meter;
          this.#handle({ type: 'asked', passBytes, dirtyRate });
        });
        break;
      case 'sample':
        this.#sample();
        break;
      case 'trickle':
        void this.#trickle(action.slow).then(() => {
          if (action.confirm) this.#handle({ type: 'confirmed' });
        });
        break;
      case 'rest':
        clearTimeout(this.#rest);
        this.#rest = setTimeout(() => this.#handle({ type: 'rested' }), action.ms);
        break;
      case 'stop-resting':
        clearTimeout(this.#rest);
        break;
    }
  }

  /** Asks QEMU after any question that is still open: that one may be of an earlier pass. */
  async #ask(): Promise<void> {
    await this.#asking;
    this.#asking ??= this.#query().finally(() => {
      this.#asking = undefined;
    });
    await this.#asking;
  }

  async #query(): Promise<void> {
    const pass = this.#meter.passes;
    try {
      const { ram } = await this.#qmp.execute('query-migrate');
      if (ram === undefined) return;
      this.#meter.onAnswer(pass, {
        remainingBytes: ram.remaining,
        dirtyBytesPerSecond: ram['dirty-pages-rate'] * ram['page-size'],
      });
    } catch {
      // A monitor that has closed is reported elsewhere. Without an answer nothing is predicted.
    }
  }

  async #trickle(slow: boolean): Promise<void> {
    // A monitor that has closed is reported elsewhere.
    await trickle(this.#qmp, slow).catch(() => {});
  }
}
