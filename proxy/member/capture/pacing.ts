/**
 * How a member that has sent its memory once goes on while others have not: QEMU left alone goes through
 * passes as fast as it can, thousands a second when there is nothing to send.
 *
 *     all has arrived once ──▶ stream at rest: the event of the next pass takes longer to reach us than
 *     thousands of passes to go by
 *
 *     a pass begins ──▶ stream at rest, QEMU is asked what the pass has found
 *                         ├─ much            ──▶ flows at once
 *                         ├─ next to nothing ──▶ trickles: a pass in 100 ms, until one finds much
 *                         └─ QEMU cannot trickle ──▶ rests for 100 ms
 *
 *     a QEMU without switchover-ack (before 8.1) would switch over by itself when it has next to
 *     nothing left: its stream is held with a little of the first pass unsent, and it trickles, so
 *     that it does not get there by way of the socket's buffer
 *
 *     closing in: nobody trickles, for a QEMU asleep in its rate limit would be late for the stop.
 *     Who finds next to nothing waits on its full socket, ready at once: for good if its guest is
 *     quiet, else for a moment, a pass's worth at a time.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { StreamIntake } from '../../intake/stream-intake.ts';
import { trickle } from '../qemu/qemu.ts';
import type { LiveMeter } from './live-meter.ts';

/** A pass with less to send is over in a moment. */
const LITTLE_BYTES = 2 ** 20;
/** So slow a writer leaves less than a stop takes when it rests through the closing in. */
const QUIET_BYTES_PER_SECOND = 4 * 2 ** 20;
const CLOSE_IN_REST_MS = 15;
/** Rest between two passes, for a QEMU that cannot trickle. */
const PASS_GAP_MS = 100;

export class Pacing {
  readonly #qmp: QmpClient;
  readonly #intake: StreamIntake;
  readonly #meter: LiveMeter;
  readonly #canTrickle: boolean;
  #trickles = false;
  #looks = false;
  #closingIn = false;
  #over = false;
  #rest: NodeJS.Timeout | undefined;

  /** @param canTrickle QEMU goes on looking for dirty pages when it is slowed (8.2) */
  constructor(qmp: QmpClient, intake: StreamIntake, meter: LiveMeter, canTrickle: boolean) {
    this.#qmp = qmp;
    this.#intake = intake;
    this.#meter = meter;
    this.#canTrickle = canTrickle;
  }

  /** A pass after the first has begun. @param asked called when the meter knows of it */
  onPass(asked: () => void): void {
    if (this.#looks || this.#over) return;
    this.#looks = true;
    clearTimeout(this.#rest);
    this.#intake.pace(true);
    void this.#look(asked).finally(() => {
      this.#looks = false;
    });
  }

  /** The first pass has been read to its end. */
  onAllSeen(): void {
    if (this.#looks || this.#trickles || this.#closingIn || this.#over) return;
    this.#intake.pace(true);
    this.#restFor(PASS_GAP_MS); // should the event have been before us
  }

  /** The stream is held near the end of the first pass. */
  keepBack(): void {
    void this.#trickle(true);
  }

  /** The meter has news. One that trickles though there is much to send would do so for ever. */
  onNews(): void {
    if (this.#intake.keptBack) return;
    if (this.#trickles && (this.#meter.remainingBytes ?? 0) >= LITTLE_BYTES) {
      void this.#trickle(false);
    }
  }

  /** The end is near: little shall be left when it comes. */
  closeIn(): void {
    this.#closingIn = true;
    void this.#trickle(false);
  }

  /** Nothing more is done to QEMU from here. Idempotent. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#rest);
  }

  async #look(asked: () => void): Promise<void> {
    await this.#meter.ask(this.#qmp);
    // Closing in, passes come as fast as they can: the samples of every tick are enough then.
    if (!this.#closingIn) asked();
    if (this.#over) return;
    if (!this.#canTrickle) {
      this.#restFor(PASS_GAP_MS);
      return;
    }
    const { passBytes, dirtyRate } = this.#meter;
    const little = passBytes !== undefined && passBytes < LITTLE_BYTES;
    if (little && this.#closingIn) {
      if (dirtyRate >= QUIET_BYTES_PER_SECOND) this.#restFor(CLOSE_IN_REST_MS);
      return;
    }
    await this.#trickle(little);
    this.#intake.pace(false);
  }

  #restFor(ms: number): void {
    this.#rest = setTimeout(() => this.#intake.pace(false), ms);
  }

  async #trickle(slow: boolean): Promise<void> {
    const wanted = slow && !this.#closingIn;
    if (wanted === this.#trickles || this.#over) return;
    this.#trickles = wanted;
    // The monitor tells of its own end elsewhere.
    await trickle(this.#qmp, wanted).catch(() => {});
  }
}
