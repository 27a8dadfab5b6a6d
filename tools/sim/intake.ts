/**
 * Where a modelled VM's stream comes in, with the rules of the real proxy's intake: it is read
 * while neither slot, nor pace, nor the live limit holds it, and always once the VM stands. A
 * QEMU that sleeps sends nothing to a proxy that reads.
 */
import type { LiveSample } from '../../policies/index.ts';
import type { Events } from './events.ts';
import type { Host, Stream } from './host.ts';
import type { ModelledVm } from './vm.ts';

/** Less than this is rounding, bytes. */
const NOTHING = 1e-2;

export class ModelledIntake implements Stream {
  readonly #events: Events;
  readonly #host: Host;
  readonly #vm: ModelledVm;
  readonly #onSent: () => void;
  readonly #liveLimitBytes: number;
  #slot = false;
  #paced = false;
  #full = false;
  #sleeps = false;
  #closed = false;
  #stage: 'live' | 'released' | 'draining' = 'live';
  #reads = false;
  #sinceMs = 0;
  #flowedMs = 0;
  #passAtMs = 0;

  /**
   * @param liveLimitBytes the most that is read before `drain`
   * @param onSent the present pass, or after a stop all there was, has been read
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
  }

  get leftWork(): number {
    if (this.#stage === 'draining') return this.#vm.leftWork;
    return this.#vm.workUntil(this.#liveLimitBytes);
  }

  send(work: number): void {
    this.#vm.send(work);
  }

  onReached(): void {
    this.#vm.send(this.leftWork); // what rounding has left
    const isFull = this.#vm.wireBytes >= this.#liveLimitBytes - NOTHING;
    if (this.#stage !== 'draining' && isFull) {
      this.#full = true;
      this.#readOrHold();
    } else this.#onSent();
  }

  /** The live phase begins. */
  start(): void {
    this.#sinceMs = this.#events.nowMs;
    this.#passAtMs = this.#events.nowMs;
  }

  slot(open: boolean): void {
    this.#slot = open;
    this.#readOrHold();
  }

  pace(resting: boolean): void {
    this.#paced = resting;
    this.#readOrHold();
  }

  /** QEMU itself sends nothing for a while, or goes on. */
  sleep(sleeping: boolean): void {
    this.#sleeps = sleeping;
    this.#readOrHold();
  }

  letGo(): void {
    if (this.#stage === 'live') this.#stage = 'released';
    this.#readOrHold();
  }

  drain(): void {
    this.#stage = 'draining';
    this.#readOrHold();
    this.#host.changed(this);
  }

  /** Nothing more comes of it. */
  close(): void {
    this.#closed = true;
    this.#host.hold(this);
  }

  /** QEMU has synced its dirty log. */
  onPass(): void {
    this.#passAtMs = this.#events.nowMs;
    this.#host.changed(this);
  }

  get flowedMs(): number {
    return this.#flowedMs + (this.#reads ? this.#events.nowMs - this.#sinceMs : 0);
  }

  sample(waits: boolean): LiveSample {
    this.#host.settle(this);
    const vm = this.#vm;
    // The list of RAM blocks is the first thing in the stream: unread, nothing is known.
    const known = vm.wireBytes > 0;
    return {
      atMs: this.#events.nowMs,
      bytes: vm.wireBytes,
      flowedMs: this.flowedMs,
      seenPages: vm.seenPages,
      totalPages: known ? vm.totalPages : 0,
      normalPages: vm.normalPages,
      zeroPages: vm.zeroPages,
      passes: vm.passes,
      passAtMs: this.#passAtMs,
      waits,
      keptBack: false,
      remainingBytes: vm.passes === 0 ? undefined : vm.remainingBytes,
      passBytes: vm.passBytes,
      dirtyBytesPerSecond: undefined,
    };
  }

  #readOrHold(): void {
    if (this.#closed) return;
    const free = this.#stage === 'released' || (this.#slot && !this.#paced);
    const reads = this.#stage === 'draining' || (free && !this.#full);
    if (reads !== this.#reads) {
      if (this.#reads) this.#flowedMs += this.#events.nowMs - this.#sinceMs;
      this.#sinceMs = this.#events.nowMs;
      this.#reads = reads;
    }
    if (reads && (!this.#sleeps || this.#stage === 'draining')) this.#host.flow(this);
    else this.#host.hold(this);
  }
}
