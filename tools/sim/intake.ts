/**
 * Receives a modelled VM's stream: the real proxy's gate (proxy/intake/gate.ts) and flow clock,
 * with a modelled QEMU at the other end. A QEMU that sleeps sends nothing to a proxy that reads.
 */
import { FlowClock } from '../../proxy/intake/flow-clock.ts';
import { type Gate, type GateEvent, NEW_GATE, reads, turn } from '../../proxy/intake/gate.ts';
import type { StreamFigures } from '../../proxy/intake/stream-intake.ts';
import type { Events } from './events.ts';
import type { Host, Stream } from './host.ts';
import type { ModelledVm } from './vm.ts';

/** The most that is taken for rounding, bytes. */
const NOTHING = 1e-2;

export class ModelledIntake implements Stream {
  readonly #events: Events;
  readonly #host: Host;
  readonly #vm: ModelledVm;
  readonly #onSent: () => void;
  readonly #liveLimitBytes: number;
  readonly clock: FlowClock;
  #gate: Gate = NEW_GATE;
  /** QEMU sends nothing before this time, milliseconds of virtual time. */
  #asleepUntilMs = 0;
  #closed = false;

  /**
   * @param liveLimitBytes the most that is read before `drain`
   * @param onSent called when the present pass, or all there was after a stop, has been read
   */
  constructor(
    events: Events,
    host: Host,
    vm: ModelledVm,
    liveLimitBytes: number,
    onSent: () => void,
  ) {
    this.#events = events;
    this.#host = host;
    this.#vm = vm;
    this.#liveLimitBytes = liveLimitBytes;
    this.#onSent = onSent;
    this.clock = new FlowClock(() => events.nowMs);
  }

  get leftWork(): number {
    if (this.#gate.stage === 'draining') return this.#vm.leftWork;
    return this.#vm.workUntil(this.#liveLimitBytes);
  }

  send(work: number): void {
    this.#vm.send(work);
  }

  onReached(): void {
    this.#vm.send(this.leftWork); // what rounding has left
    const isFull = this.#vm.wireBytes >= this.#liveLimitBytes - NOTHING;
    if (this.#gate.stage !== 'draining' && isFull) this.#turn('limit-reached');
    else this.#onSent();
  }

  slot(open: boolean): void {
    this.#turn(open ? 'slot-opens' : 'slot-closes');
  }

  pace(resting: boolean): void {
    this.#turn(resting ? 'pace-on' : 'pace-off');
  }

  letGo(): void {
    this.#turn('released');
  }

  drain(): void {
    this.#turn('draining');
    this.#host.changed(this);
  }

  /** Has QEMU send nothing for a while. What is left of an earlier sleep is slept, too. */
  sleep(ms: number): void {
    const untilMs = this.#events.nowMs + ms;
    if (untilMs <= this.#asleepUntilMs) return;
    this.#asleepUntilMs = untilMs;
    this.#flowOrHold();
    this.#events.at(untilMs, () => this.#flowOrHold());
  }

  /** Closes the stream. */
  close(): void {
    this.#closed = true;
    this.#host.hold(this);
  }

  /** Takes that QEMU has synced its dirty log: there is more to send. */
  onPass(): void {
    this.#host.changed(this);
  }

  /** Brings the VM up to date with what has been read of it. */
  settle(): void {
    this.#host.settle(this);
  }

  get figures(): StreamFigures {
    this.settle();
    const vm = this.#vm;
    // The list of RAM blocks is the first thing in the stream: unread, nothing is known.
    const isKnown = vm.wireBytes > 0;
    return {
      bytes: vm.wireBytes,
      flowedMs: this.clock.flowedMs,
      seenPages: vm.seenPages,
      totalPages: isKnown ? vm.totalPages : 0,
      normalPages: vm.normalPages,
      zeroPages: vm.zeroPages,
      keptBack: this.#gate.keptBack,
    };
  }

  #turn(event: GateEvent): void {
    if (this.#closed) return;
    this.#gate = turn(this.#gate, event);
    this.clock.note(reads(this.#gate));
    this.#flowOrHold();
  }

  #flowOrHold(): void {
    if (this.#closed) return;
    // A VM that has stopped is sent to its end at once: nothing limits its rate any more.
    const isAsleep = this.#events.nowMs < this.#asleepUntilMs && this.#gate.stage !== 'draining';
    if (reads(this.#gate) && !isAsleep) this.#host.flow(this);
    else this.#host.hold(this);
  }
}
