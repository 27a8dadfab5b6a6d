/**
 * One member in a simulated round: the real session machine, enacted on a modelled VM the way the
 * real proxy enacts it on QEMU.
 */
import type { LiveSample } from '../../policies/index.ts';
import type { MemberCommand, MemberMilestone } from '../../proxy/coordinator/rounds/round.ts';
import { LiveMeter, SAMPLE_INTERVAL_MS } from '../../proxy/member/capture/live-meter.ts';
import {
  IDLE,
  LIVE,
  NEW_SESSION,
  type Session,
  type SessionAction,
  type SessionEvent,
  step,
} from '../../proxy/member/capture/session.ts';
import { PAGE_BYTES } from './dirty-model.ts';
import type { Events } from './events.ts';
import type { Host } from './host.ts';
import { ModelledIntake } from './intake.ts';
import { ModelledPacing } from './pacing.ts';
import type { Random } from './random.ts';
import { ModelledVm, type VmSpec } from './vm.ts';

/** QEMU switches over when it could send the rest in this time. */
const CONVERGED_MS = 1;
const ADMIT_MS = 15;
const OPEN_MS = 10;
const RESUME_MS = 1.5;
const SEAL_MS = 25;
const UNDO_MS = 20;

export interface MemberOptions {
  /** True for a member without a live phase: it is stopped first, then copied. */
  readonly waits: boolean;
  readonly memoryBound: number;
  readonly stopDeadlineMs: number;
}

/** A member's way to its coordinator. */
export interface MemberListener {
  readonly report: (report: MemberMilestone) => void;
  readonly sample: (sample: LiveSample) => void;
}

/** Times of a member's round, milliseconds of virtual time, and figures. */
export interface MemberRecord {
  liveAtMs: number;
  stoppedAtMs: number;
  drainedAtMs: number;
  resumedAtMs: number;
  liveBytes: number;
  passes: number;
  heldMs: number;
}

export class ModelledMember {
  readonly vm: ModelledVm;
  readonly spec: VmSpec;
  readonly options: MemberOptions;
  readonly record: MemberRecord = {
    liveAtMs: Number.NaN,
    stoppedAtMs: Number.NaN,
    drainedAtMs: Number.NaN,
    resumedAtMs: Number.NaN,
    liveBytes: 0,
    passes: 0,
    heldMs: 0,
  };
  readonly #events: Events;
  readonly #host: Host;
  readonly #random: Random;
  readonly #listener: MemberListener;
  readonly #intake: ModelledIntake;
  readonly #meter: LiveMeter;
  readonly #pacing: ModelledPacing;
  #session: Session = NEW_SESSION;
  /** Counts deaths and undoings: what was planned before the last does not happen any more. */
  #life = 0;
  #deadline = 0;
  #gone = false;

  constructor(
    spec: VmSpec,
    options: MemberOptions,
    events: Events,
    host: Host,
    random: Random,
    listener: MemberListener,
  ) {
    this.spec = spec;
    this.options = options;
    this.#events = events;
    this.#host = host;
    this.#random = random;
    this.#listener = listener;
    this.vm = new ModelledVm(spec);
    const liveLimitBytes = options.memoryBound * spec.ramBytes;
    this.#intake = new ModelledIntake(events, host, this.vm, liveLimitBytes, () => this.#onSent());
    this.#meter = new LiveMeter(() => events.nowMs);
    this.#pacing = new ModelledPacing({
      vm: this.vm,
      intake: this.#intake,
      meter: this.#meter,
      after: (ms, happening) => this.#after(ms, happening),
      sample: () => this.#sampleLive(),
    });
  }

  get isIdle(): boolean {
    return this.#gone || this.#session.state === IDLE;
  }

  command(command: MemberCommand): void {
    if (!this.#gone) this.#handle({ type: command });
  }

  /** Opens or closes the member's slot. */
  slot(open: boolean): void {
    if (!this.#gone) this.#intake.slot(open);
  }

  /** Makes ready for the end, which is near: the slot opens, and QEMU is to be ready to stop. */
  closeIn(): void {
    if (this.#gone) return;
    this.#intake.slot(true);
    if (!this.options.waits) this.#pacing.closeIn();
  }

  /** Has the proxy die: QEMU finds the socket closed, and the VM runs. */
  lose(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#life += 1;
    this.#intake.close();
    this.vm.resume();
    this.#listener.report('gone');
  }

  #handle(event: SessionEvent): void {
    const { session, actions } = step(this.#session, event);
    this.#session = session;
    for (const action of actions) this.#enact(action);
  }

  #enact(action: SessionAction): void {
    switch (action.type) {
      case 'admit':
        this.#later(ADMIT_MS, () => this.#handle({ type: 'admitted' }));
        break;
      case 'open':
        this.#later(OPEN_MS, () => this.#open());
        break;
      case 'start':
        this.#start();
        break;
      case 'stop':
        this.#stop();
        break;
      case 'resume':
        this.#later(RESUME_MS, () => this.#resume());
        break;
      case 'seal':
        this.#later(SEAL_MS, () => this.#handle({ type: 'sealed' }));
        break;
      case 'undo':
        this.#undo();
        break;
      case 'arm-deadline':
        this.#armDeadline();
        break;
      case 'disarm-deadline':
        this.#deadline += 1;
        break;
      case 'report':
        this.#listener.report(action.report);
        break;
      case 'vote':
      case 'release':
        break;
    }
  }

  #open(): void {
    if (!this.options.waits) this.#migrate();
    this.#handle({ type: 'streaming' });
  }

  #migrate(): void {
    this.vm.migrate(this.#events.nowMs);
    this.#meter.onPass(this.vm.passes);
  }

  #start(): void {
    this.record.liveAtMs = this.#events.nowMs;
    this.#intake.clock.start();
    this.#sample();
    this.#after(SAMPLE_INTERVAL_MS, () => this.#tick());
  }

  #tick(): void {
    if (this.#session.state !== LIVE) return;
    if (this.options.waits) this.#sample();
    else this.#pacing.onTick();
    this.#after(SAMPLE_INTERVAL_MS, () => this.#tick());
  }

  #stop(): void {
    this.#pacing.closeIn();
    this.#pacing.end();
    if (!this.options.waits) this.#intake.letGo();
    this.#later(this.spec.stopMs, () => this.#stopped());
  }

  #stopped(): void {
    if (!this.vm.runs) return;
    this.#intake.settle();
    const { record, vm } = this;
    const { nowMs } = this.#events;
    const { flowedMs } = this.#intake.clock;
    record.stoppedAtMs = nowMs;
    record.liveBytes = vm.wireBytes;
    record.passes = vm.passes;
    record.heldMs = Math.max(0, nowMs - record.liveAtMs - flowedMs);
    vm.stop(nowMs);
    if (this.options.waits) this.#migrate();
    this.#intake.drain();
    this.#handle({ type: 'vm-stopped' });
  }

  /** Takes that the present pass has been read; or, of a stopped VM, all but its device state. */
  #onSent(): void {
    if (!this.vm.runs) {
      this.#intake.close();
      this.#later(this.spec.deviceMs, () => this.#drained());
      return;
    }
    const bandwidth = this.#host.rate;
    const found = this.vm.sync(this.#events.nowMs) * PAGE_BYTES;
    if (!this.spec.switchoverAck && found < bandwidth * CONVERGED_MS) this.#stopped();
    else this.#pacing.onPass(found, this.#session.state === LIVE);
  }

  #sampleLive(): void {
    if (this.#session.state === LIVE) this.#sample();
  }

  #sample(): void {
    this.#listener.sample(this.#meter.sample(this.#intake.figures, this.options.waits));
  }

  #drained(): void {
    this.record.drainedAtMs = this.#events.nowMs;
    this.#handle({ type: 'drained' });
  }

  #resume(): void {
    this.vm.resume();
    this.record.resumedAtMs = this.#events.nowMs;
    this.#handle({ type: 'vm-resumed' });
  }

  #armDeadline(): void {
    const deadline = ++this.#deadline;
    this.#after(this.options.stopDeadlineMs, () => {
      if (deadline === this.#deadline) this.#handle({ type: 'deadline' });
    });
  }

  #undo(): void {
    this.#life += 1;
    this.#intake.close();
    this.#later(UNDO_MS, () => {
      this.vm.resume();
      this.#handle({ type: 'undone' });
    });
  }

  /** Has something happen after about so long: real machines vary. */
  #later(ms: number, happening: () => void): void {
    this.#after(ms * this.#random.uniform(0.75, 1.25), happening);
  }

  #after(ms: number, happening: () => void): void {
    const life = this.#life;
    this.#events.after(ms, () => {
      if (life === this.#life) happening();
    });
  }
}
