/**
 * Enacts a member's session: does what session.ts says with a real QEMU, a real stream and a real
 * shadow, and feeds back what happened.
 *
 *     QMP events ─┐                          ┌▶ QMP commands
 *     stream ─────┼─▶ step(session, event) ──┼▶ votes on the return path
 *     commands ───┘                          └▶ staging shadow, reports
 *
 * A VM's stop, for one, comes this way:
 *
 *     QMP STOP ▶ VmEvents ▶ CaptureMethod.onStopped ▶ Capture.handle ▶ step ▶ resume ▶ QMP cont
 *
 * Steps run one after the other. Undoing first lets the step under way end (each calls throwIfOver
 * after every wait), so that no step acts on a VM that is being repaired.
 */
import type { Logger } from 'pino';
import { QmpClient } from '../../../qmp/index.ts';
import { type Failure, toFailure } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import type {
  MemberLocation,
  MemberNotice,
  PrepareCommand,
  RoundFacts,
} from '../../protocol/member.ts';
import { Journal } from '../repair/journal.ts';
import { repairVm } from '../repair/repair.ts';
import { admitMember } from './admission.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import { LiveMeter, SAMPLE_INTERVAL_MS } from './live-meter.ts';
import type { CaptureMethod } from './method.ts';
import { prepareMethod } from './prepare-method.ts';
import { sealShadow } from './seal.ts';
import {
  IDLE,
  LIVE,
  NEW_SESSION,
  type Session,
  type SessionAction,
  type SessionEvent,
  STATE_NAMES,
  step,
  UNDO_SHARE,
  UNDOING,
} from './session.ts';
import type { Admitted, MemberRound } from './stages.ts';
import { VmEvents } from './vm-events.ts';

/** The time that repairing a VM is tried for, before it is left to another process. */
const UNDO_LIMIT_MS = 60_000;

/** Thrown by a step that finds the round over. Never reported. */
class RoundOver extends Error {}

/** A monitor connection, and what its events lead to. */
interface Connected {
  readonly monitor: QmpClient;
  readonly events: VmEvents;
}

export class Capture implements MemberRound {
  readonly location: MemberLocation;
  readonly prepare: PrepareCommand;
  readonly journal: Journal;
  readonly meter = new LiveMeter(() => performance.now());
  readonly #notify: (notice: MemberNotice) => void;
  readonly #onOver: (how: 'repaired' | 'unrepaired') => void;
  readonly #log: Logger;
  readonly #connecting = new AbortController();
  #facts: RoundFacts = {};
  #session: Session = NEW_SESSION;
  #step: Promise<void> = Promise.resolve();
  #stopAsked = false;
  #deadline: NodeJS.Timeout | undefined;
  #sampler: NodeJS.Timeout | undefined;
  // What the stages have made (stages.ts). Undoing takes it apart, however far the round has come.
  #connected: Connected | undefined;
  #admitted: Admitted | undefined;
  #method: CaptureMethod | undefined;
  #result: StreamResult | undefined;

  /** @param onOver called once, when the session is idle again */
  constructor(
    location: MemberLocation,
    prepare: PrepareCommand,
    notify: (notice: MemberNotice) => void,
    onOver: (how: 'repaired' | 'unrepaired') => void,
    log: Logger,
  ) {
    this.location = location;
    this.prepare = prepare;
    this.journal = new Journal(location.directory);
    this.#notify = notify;
    this.#onOver = onOver;
    this.#log = log.child({ round: prepare.round });
  }

  get round(): string {
    return this.prepare.round;
  }

  get facts(): RoundFacts {
    return this.#facts;
  }

  get state(): number {
    return this.#session.state;
  }

  get method(): CaptureMethod | undefined {
    return this.#method;
  }

  get stopAsked(): boolean {
    return this.#stopAsked;
  }

  /** Returns memory whose huge pages are to be joined when the round is over. */
  get split(): SplitMemory | undefined {
    return this.#method?.split;
  }

  /** Opens or closes the member's slot. A stream that is being drained is read regardless. */
  slot(open: boolean): void {
    this.#method?.slot(open);
  }

  /** Makes ready for the end, which is near: slots and pacing are over, little is to be left. */
  closeIn(): void {
    this.#method?.slot(true);
    this.#method?.closeIn();
  }

  handle(event: SessionEvent): void {
    const before = this.#session.state;
    const { session, actions } = step(this.#session, event);
    this.#session = session;
    if (session.state !== before) {
      this.#log.debug({ event: event.type, state: STATE_NAMES[session.state] }, 'session');
      faultPoint(`member/${this.location.member}/${STATE_NAMES[session.state]}`);
    }
    for (const action of actions) this.#enact(action);
  }

  failed(where: string, error: unknown): void {
    const { state } = this.#session;
    if (state === IDLE || state === UNDOING || error instanceof RoundOver) return;
    const failure = toFailure(error, { member: this.location.member, where });
    this.#log.warn({ failure, state: STATE_NAMES[state] }, 'member failed');
    this.handle({ type: 'failed', failure });
  }

  throwIfOver(): void {
    const { state } = this.#session;
    if (state === UNDOING || state === IDLE) throw new RoundOver();
  }

  addFacts(facts: RoundFacts): void {
    this.#facts = { ...this.#facts, ...facts };
  }

  noteStop(stopping: boolean): void {
    this.#stopAsked = stopping;
    this.journal.note(stopping);
  }

  sampleLive(): void {
    if (this.#session.state === LIVE) this.#sample();
  }

  whole(result: StreamResult): void {
    this.#result = result;
    this.handle({ type: 'drained' });
  }

  #enact(action: SessionAction): void {
    switch (action.type) {
      case 'admit':
        this.#attempt('admit', () => this.#admit());
        break;
      case 'open':
        this.#attempt('open', () => this.#open());
        break;
      case 'start':
        this.#start();
        break;
      case 'stop':
        this.#attempt('stop', () => this.#stop());
        break;
      case 'vote':
        this.#method?.vote();
        break;
      case 'resume':
        this.#attempt('resume', async () => made(this.#method).resume());
        break;
      case 'seal':
        this.#attempt('seal', () => this.#seal());
        break;
      case 'release':
        this.#method?.committed();
        this.#end('repaired');
        break;
      case 'undo':
        void this.#undo(action.keepShadow);
        break;
      case 'arm-deadline':
        this.#deadline = setTimeout(
          () => this.handle({ type: 'deadline' }),
          this.prepare.stopDeadlineMs * UNDO_SHARE,
        );
        break;
      case 'disarm-deadline':
        clearTimeout(this.#deadline);
        break;
      case 'report':
        this.#report(action);
        break;
    }
  }

  #attempt(where: string, work: () => Promise<void>): void {
    this.#step = this.#step
      .then(() => this.throwIfOver())
      .then(work)
      .catch((error: unknown) => this.failed(where, error));
  }

  async #admit(): Promise<void> {
    const { signal } = this.#connecting;
    const monitor = await QmpClient.connect(this.location.qmp, { signal });
    const events = new VmEvents(this, monitor);
    this.#connected = { monitor, events };
    monitor.onEvent((event) => events.take(event));
    void monitor.closed.then((error) => this.failed('qmp', error));
    const admitted = await admitMember(this, monitor);
    this.#admitted = admitted;
    this.throwIfOver();
    this.handle({ type: 'admitted', background: admitted.mode === 'background' });
  }

  async #open(): Promise<void> {
    const method = await prepareMethod(this, made(this.#admitted));
    this.#method = method;
    this.throwIfOver();
    await method.begin();
  }

  /** Begins the live phase: the stream flows when the coordinator opens the member's slot. */
  #start(): void {
    this.#method?.start();
    this.#sample();
    this.#sampler = setInterval(() => this.#tick(), SAMPLE_INTERVAL_MS);
  }

  #tick(): void {
    if (this.#session.state === LIVE) void this.#method?.onTick();
    else this.#sample();
  }

  async #stop(): Promise<void> {
    await made(this.#connected).events.stopKnown();
    this.throwIfOver();
    this.noteStop(true);
    await made(this.#method).stop();
  }

  async #seal(): Promise<void> {
    clearInterval(this.#sampler);
    this.#sample();
    this.addFacts(await sealShadow(this, made(this.#method), made(this.#result)));
    this.handle({ type: 'sealed' });
  }

  /** Leaves the VM as it was found, and nothing behind. */
  async #undo(keepShadow: boolean): Promise<void> {
    clearInterval(this.#sampler);
    const { location, journal } = this;
    this.#method?.end();
    const streamEnded = this.#method?.abandon();
    if (this.#connected === undefined) this.#connecting.abort();
    await this.#step;
    const snapshot = streamEnded !== undefined && journal.read()?.snapshot !== undefined;
    if (!snapshot) this.#method?.close();
    let how: 'repaired' | 'unrepaired' = 'repaired';
    try {
      await repairVm(location.qmp, journal, UNDO_LIMIT_MS, {
        connected: this.#connected?.monitor,
        streamEnded: snapshot ? streamEnded : undefined,
      });
    } catch (error) {
      const failure = toFailure(error, { member: location.member, where: 'undo' });
      this.#log.error({ failure }, 'could not repair the VM; its journal stays');
      how = 'unrepaired';
    }
    if (!keepShadow) {
      await this.#admitted?.shadow.discard().catch((error: unknown) => {
        this.#log.error({ err: error }, 'could not remove the staged shadow');
      });
    }
    if (how === 'repaired') this.handle({ type: 'undone' });
    this.#end(how);
  }

  #end(how: 'repaired' | 'unrepaired'): void {
    clearInterval(this.#sampler);
    this.#method?.end();
    clearTimeout(this.#deadline);
    this.#method?.close();
    this.#admitted?.tracking?.close(); // there may be no method yet
    this.#connected?.monitor.close();
    this.#onOver(how);
  }

  #sample(): void {
    const method = this.#method;
    const sample = this.meter.sample(method?.figures, method?.waits ?? false);
    this.addFacts({ sample });
    this.#notify({ type: 'sample', round: this.round, sample });
  }

  #report(action: SessionAction & { type: 'report' }): void {
    const { report, failure } = action;
    const { round } = this;
    this.#log.info({ report, ...(failure && { failure }) }, 'report');
    const carried: { failure?: Failure } = failure === undefined ? {} : { failure };
    this.#notify({ type: 'report', round, report, facts: this.#facts, ...carried });
  }
}

/** @throws Error if a stage has not made it: session.ts rules that out */
function made<T>(thing: T | undefined): T {
  if (thing === undefined) throw new Error('a step of the round came before the one it needs');
  return thing;
}
