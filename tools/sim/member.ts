/**
 * One member in a simulated round: the real session machine, enacted on a modelled VM the way the
 * real proxy enacts it on QEMU.
 */
import type { LiveSample } from '../../policies/index.ts';
import type { MemberCommand, MemberMilestone } from '../../proxy/coordinator/rounds/round.ts';
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
import type { Random } from './random.ts';
import { ModelledVm, type VmSpec } from './vm.ts';

const SAMPLE_INTERVAL_MS = 100;
/** At the start of a pass QEMU is asked what it has found, the stream at rest. */
const ASK_MS = 2;
/**
 * A member whose pass finds less than this is slowed to a pass in the window of QEMU's rate limit.
 */
const TRICKLE_BELOW_BYTES = 2 ** 20;
const TRICKLE_MS = 100;
/** Passes over next to nothing that are not slowed: QEMU does thousands a second, we fewer. */
const SPIN_MS = 1;
/** In which samples are told no more often than this. */
const SPIN_SAMPLE_MS = 10;
/** QEMU switches over when it could send the rest in this time. */
const CONVERGED_MS = 1;
const ADMIT_MS = 15;
const OPEN_MS = 10;
const RESUME_MS = 1.5;
const SEAL_MS = 25;
const UNDO_MS = 20;

export interface MemberOptions {
  /** It has no live phase: it is stopped first, then copied. */
  readonly waits: boolean;
  readonly memoryBound: number;
  readonly stopDeadlineMs: number;
}

/** What a member says to its coordinator. */
export interface MemberListener {
  readonly report: (report: MemberMilestone) => void;
  readonly sample: (sample: LiveSample) => void;
}

/** What happened, and when; milliseconds of virtual time. */
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
  #session: Session = NEW_SESSION;
  /** What was begun before it changed happens no more: the member is gone, or has undone. */
  #life = 0;
  #deadline = 0;
  #gone = false;
  #closingIn = false;
  #sampledAtMs = 0;

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
  }

  get isIdle(): boolean {
    return this.#gone || this.#session.state === IDLE;
  }

  command(command: MemberCommand): void {
    if (!this.#gone) this.#handle({ type: command });
  }

  /** The coordinator opens or closes the member's slot. */
  slot(open: boolean): void {
    if (!this.#gone) this.#intake.slot(open);
  }

  /** The end is near: slots and pacing are over. */
  closeIn(): void {
    if (this.#gone || this.#session.state !== LIVE) return;
    this.#closingIn = true;
    this.#intake.letGo();
  }

  /** The proxy dies; its QEMU finds the socket closed, and the VM runs. */
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
    if (!this.options.waits) this.vm.migrate(this.#events.nowMs);
    this.#handle({ type: 'streaming' });
  }

  #start(): void {
    this.record.liveAtMs = this.#events.nowMs;
    this.#intake.start();
    this.#tick();
  }

  #tick(): void {
    if (this.#session.state !== LIVE) return;
    this.#sample();
    this.#after(SAMPLE_INTERVAL_MS, () => this.#tick());
  }

  #stop(): void {
    this.#closingIn = true;
    this.#intake.letGo();
    this.#later(this.spec.stopMs, () => this.#stopped());
  }

  #stopped(): void {
    if (!this.vm.runs) return;
    this.#host.settle(this.#intake);
    const { record, vm } = this;
    const { nowMs } = this.#events;
    record.stoppedAtMs = nowMs;
    record.liveBytes = vm.wireBytes;
    record.passes = vm.passes;
    record.heldMs = Math.max(0, nowMs - record.liveAtMs - this.#intake.flowedMs);
    vm.stop(nowMs);
    if (this.options.waits) vm.migrate(nowMs);
    this.#intake.drain();
    this.#handle({ type: 'vm-stopped' });
  }

  /** The present pass has been read; of a VM that stands, all but its device state. */
  #onSent(): void {
    if (!this.vm.runs) {
      this.#intake.close();
      this.#later(this.spec.deviceMs, () => this.#drained());
      return;
    }
    const bandwidth = this.#host.rate;
    const found = this.vm.sync(this.#events.nowMs) * PAGE_BYTES;
    if (!this.spec.switchoverAck && found < bandwidth * CONVERGED_MS) this.#stopped();
    else this.#onPass(found);
  }

  #onPass(found: number): void {
    this.#intake.onPass();
    const little = found < TRICKLE_BELOW_BYTES;
    if (this.#closingIn) {
      if (little) this.#sleep(SPIN_MS);
      this.#sampleNowAndThen();
      return;
    }
    this.#intake.pace(true);
    this.#sample();
    this.#after(ASK_MS, () => {
      this.#intake.pace(false);
      if (little && !this.#closingIn) this.#sleep(TRICKLE_MS);
    });
  }

  #sleep(ms: number): void {
    this.#intake.sleep(true);
    this.#after(ms, () => this.#intake.sleep(false));
  }

  #sample(): void {
    this.#sampledAtMs = this.#events.nowMs;
    this.#listener.sample(this.#intake.sample(this.options.waits));
  }

  #sampleNowAndThen(): void {
    const due = this.#events.nowMs - this.#sampledAtMs >= SPIN_SAMPLE_MS;
    if (due && this.#session.state === LIVE) this.#sample();
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

  /** What a real machine does takes now less, now more. */
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
