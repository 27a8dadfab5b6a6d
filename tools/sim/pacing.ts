/**
 * Enacts the real pacing (proxy/intake/pacing.ts) on a modelled QEMU, the way the real proxy does
 * on a real one: QEMU's answers take time, and a QEMU that trickles sleeps between two passes.
 */
import {
  LITTLE_BYTES,
  newPacing,
  type Pacing,
  type PacingAction,
  type PacingEvent,
  step,
} from '../../proxy/intake/pacing.ts';
import type { LiveMeter } from '../../proxy/member/capture/live-meter.ts';
import type { ModelledIntake } from './intake.ts';
import type { ModelledVm } from './vm.ts';

/** The time QEMU takes to answer a command, milliseconds. */
const ANSWER_MS = 2;
/** The window of QEMU's rate limit (BUFFER_DELAY): the time between two passes that trickle. */
const TRICKLE_MS = 100;
/** The time of a pass over next to nothing. QEMU does thousands a second, the model fewer. */
const SPIN_MS = 1;

export interface PacingContext {
  readonly vm: ModelledVm;
  readonly intake: ModelledIntake;
  readonly meter: LiveMeter;
  /** Has something happen later, unless the member's round is over by then. */
  readonly after: (ms: number, happening: () => void) => void;
  /** Tells the coordinator how far the member is. */
  readonly sample: () => void;
}

export class ModelledPacing {
  readonly #context: PacingContext;
  #state: Pacing = newPacing(true);
  /** QEMU has taken the command to trickle. */
  #qemuTrickles = false;
  /** Rests that were asked for before the last one are void. */
  #rest = 0;

  constructor(context: PacingContext) {
    this.#context = context;
  }

  /** Takes the end of the first pass, and of any other: QEMU has found so much for the next. */
  onPass(foundBytes: number, isLive: boolean): void {
    const { intake, meter, vm } = this.#context;
    meter.onPass(vm.passes);
    intake.onPass();
    if (this.#qemuTrickles) intake.sleep(TRICKLE_MS);
    else if (foundBytes < LITTLE_BYTES) intake.sleep(SPIN_MS);
    if (!isLive) return;
    if (vm.passes === 2) this.#handle({ type: 'all-seen' });
    this.#handle({ type: 'pass' });
  }

  /** Asks QEMU what is left, paces accordingly and samples. */
  onTick(): void {
    this.#ask(() => {
      const { meter, sample } = this.#context;
      this.#handle({ type: 'news', remainingBytes: meter.remainingBytes ?? 0 });
      sample();
    });
  }

  closeIn(): void {
    this.#handle({ type: 'close-in' });
  }

  end(): void {
    this.#handle({ type: 'end' });
  }

  #handle(event: PacingEvent): void {
    const { pacing, actions } = step(this.#state, event);
    this.#state = pacing;
    for (const action of actions) this.#enact(action);
  }

  #enact(action: PacingAction): void {
    const { intake, meter, after, sample } = this.#context;
    switch (action.type) {
      case 'pace':
        intake.pace(action.rests);
        break;
      case 'ask':
        this.#ask(() => {
          const { passBytes, dirtyRate } = meter;
          this.#handle({ type: 'asked', passBytes, dirtyRate });
        });
        break;
      case 'sample':
        sample();
        break;
      case 'trickle':
        after(ANSWER_MS, () => {
          this.#qemuTrickles = action.slow;
          if (action.slow) intake.sleep(TRICKLE_MS);
          if (action.confirm) this.#handle({ type: 'confirmed' });
        });
        break;
      case 'rest': {
        const rest = ++this.#rest;
        after(action.ms, () => {
          if (rest === this.#rest) this.#handle({ type: 'rested' });
        });
        break;
      }
      case 'stop-resting':
        this.#rest += 1;
        break;
    }
  }

  /** Asks QEMU what is left. Its answer arrives a little later. */
  #ask(answered: () => void): void {
    const { vm, intake, meter, after } = this.#context;
    const pass = meter.passes;
    after(ANSWER_MS, () => {
      intake.settle();
      meter.onAnswer(pass, {
        remainingBytes: vm.remainingBytes,
        dirtyBytesPerSecond: undefined,
      });
      answered();
    });
  }
}
