/**
 * Enacts a member's session: does what session.ts says with a real QEMU, a real stream and a real
 * shadow, and feeds back what happened.
 *
 *     QMP events ─┐                          ┌▶ QMP commands
 *     stream ─────┼─▶ step(session, event) ──┼▶ votes on the return path
 *     commands ───┘                          └▶ staging shadow, reports
 *
 * Steps run one after the other. Undoing first lets the step under way end (each looks up after every
 * wait, and stops when the round is over), so that nothing is done to the VM behind its back.
 */
import type { Logger } from 'pino';
import { QmpClient } from '../../../qmp/index.ts';
import { type Failure, toFailure } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type {
  CaptureMode,
  MemberLocation,
  MemberNotice,
  PrepareCommand,
} from '../../protocol/member.ts';
import { repairVm } from '../repair/repair.ts';
import { admitMember } from './admission.ts';
import { BackgroundCapture } from './background.ts';
import { chooseCapture } from './choose-capture.ts';
import type { SplitMemory } from './huge-page-policy.ts';
import { SAMPLE_INTERVAL_MS } from './live-meter.ts';
import { MemberRound } from './member-round.ts';
import type { CaptureMethod } from './method.ts';
import { PrecopyCapture } from './precopy.ts';
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
import { StopCopyCapture } from './stop-copy.ts';
import { VmEvents } from './vm-events.ts';

/** How long putting a VM right is tried before another process is left to it. */
const UNDO_LIMIT_MS = 60_000;

/** Thrown by a step that finds the round over; told to nobody. */
class RoundOver extends Error {}

export class Capture {
  readonly #round: MemberRound;
  readonly #notify: (notice: MemberNotice) => void;
  readonly #onOver: (how: 'repaired' | 'unrepaired') => void;
  readonly #log: Logger;
  readonly #over = new AbortController();
  #session: Session = NEW_SESSION;
  #step: Promise<void> = Promise.resolve();
  #method: CaptureMethod | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #sampler: NodeJS.Timeout | undefined;
  readonly #events: VmEvents;

  /** @param onOver called once, when the session is idle again */
  constructor(
    location: MemberLocation,
    prepare: PrepareCommand,
    notify: (notice: MemberNotice) => void,
    onOver: (how: 'repaired' | 'unrepaired') => void,
    log: Logger,
  ) {
    this.#round = new MemberRound(location, prepare, {
      handle: (event) => this.handle(event),
      failed: (where, error) => this.#failed(where, error),
      lookUp: () => this.#lookUp(),
    });
    this.#events = new VmEvents(
      this.#round,
      () => this.#session.state,
      () => this.#method,
    );
    this.#notify = notify;
    this.#onOver = onOver;
    this.#log = log.child({ round: prepare.round });
  }

  get round(): string {
    return this.#round.prepare.round;
  }

  /** What is to be joined when the round is over. */
  get split(): SplitMemory | undefined {
    return this.#method?.split;
  }

  /** Opens or closes the member's slot; a stream that is being drained flows regardless. */
  slot(open: boolean): void {
    this.#round.intake?.slot(open);
  }

  /** Takes a command of the coordinator, or what happened. */
  handle(event: SessionEvent): void {
    const before = this.#session.state;
    const { session, actions } = step(this.#session, event);
    this.#session = session;
    if (session.state !== before) {
      this.#log.debug({ event: event.type, state: STATE_NAMES[session.state] }, 'session');
      faultPoint(`member/${this.#round.location.member}/${STATE_NAMES[session.state]}`);
    }
    for (const action of actions) this.#enact(action);
  }

  /** The end is near: slots and pacing are over, so that little is left when it comes. */
  closeIn(): void {
    this.#round.intake?.slot(true);
    this.#method?.live?.closeIn();
  }

  #enact(action: SessionAction): void {
    switch (action.type) {
      case 'admit':
        this.#attempt('admit', () => this.#admit());
        break;
      case 'open':
        this.#attempt('open', async () => this.#driving.open());
        break;
      case 'start':
        this.#start();
        break;
      case 'stop':
        this.#attempt('stop', () => this.#stop());
        break;
      case 'vote':
        this.#round.intake?.vote();
        break;
      case 'resume':
        this.#attempt('resume', async () => this.#driving.resume());
        break;
      case 'seal':
        this.#attempt('seal', () => this.#seal());
        break;
      case 'release':
        this.#end('repaired');
        break;
      case 'undo':
        void this.#undo(action.keepShadow);
        break;
      case 'arm-deadline':
        this.#deadline = setTimeout(
          () => this.handle({ type: 'deadline' }),
          this.#round.prepare.stopDeadlineMs * UNDO_SHARE,
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
      .then(() => this.#lookUp())
      .then(work)
      .catch((error: unknown) => this.#failed(where, error));
  }

  /** Between two waits of a step: is the round still on? */
  #lookUp(): void {
    const { state } = this.#session;
    if (state === UNDOING || state === IDLE) throw new RoundOver();
  }

  #failed(where: string, error: unknown): void {
    const { state } = this.#session;
    if (state === IDLE || state === UNDOING || error instanceof RoundOver) return;
    const failure = toFailure(error, { member: this.#round.location.member, where });
    this.#log.warn({ failure, state: STATE_NAMES[state] }, 'member failed');
    this.handle({ type: 'failed', failure });
  }

  async #admit(): Promise<void> {
    const round = this.#round;
    round.qmp = await QmpClient.connect(round.location.qmp, { signal: this.#over.signal });
    round.qmp.onEvent((event) => this.#events.take(event));
    void round.qmp.closed.then((error) => this.#failed('qmp', error));
    await admitMember(round, () => this.#choose(round.monitor));
  }

  async #choose(qmp: QmpClient): Promise<CaptureMode> {
    const { mode, reason } = await chooseCapture(qmp, this.#round.prepare);
    this.#lookUp();
    this.#method = this.#newDrive(mode);
    this.#round.addFacts({ capture: mode, ...(reason && { captureReason: reason }) });
    return mode;
  }

  #newDrive(mode: CaptureMode): CaptureMethod {
    switch (mode) {
      case 'precopy':
        return new PrecopyCapture(this.#round, () => this.#sampleLive());
      case 'stop-copy':
        return new StopCopyCapture(this.#round);
      case 'background':
        return new BackgroundCapture(this.#round);
    }
  }

  get #driving(): CaptureMethod {
    if (this.#method === undefined) throw new Error('not admitted');
    return this.#method;
  }

  /** The stream flows from here on when the coordinator opens the member's slot. */
  #start(): void {
    this.#round.startedAt = performance.now();
    this.#round.intake?.clock.start();
    this.#sample();
    this.#sampler = setInterval(() => this.#tick(), SAMPLE_INTERVAL_MS);
  }

  #tick(): void {
    const live = this.#session.state === LIVE ? this.#method?.live : undefined;
    if (live === undefined) this.#sample();
    else void live.onTick();
  }

  #sampleLive(): void {
    if (this.#session.state === LIVE) this.#sample();
  }

  async #stop(): Promise<void> {
    await this.#events.stopKnown();
    this.#lookUp();
    this.#round.noteStop(true);
    await this.#driving.stop();
  }

  async #seal(): Promise<void> {
    clearInterval(this.#sampler);
    this.#sample();
    await sealShadow(this.#round, this.#driving);
  }

  /** Leaves the VM as it was found, and nothing behind. */
  async #undo(keepShadow: boolean): Promise<void> {
    clearInterval(this.#sampler);
    const { location, journal } = this.#round;
    this.#method?.end();
    const streamEnded = this.#method?.abandon();
    if (this.#round.qmp === undefined) this.#over.abort();
    await this.#step;
    const snapshot = streamEnded !== undefined && journal.read()?.snapshot !== undefined;
    if (!snapshot) this.#round.intake?.close();
    let how: 'repaired' | 'unrepaired' = 'repaired';
    try {
      await repairVm(location.qmp, journal, UNDO_LIMIT_MS, {
        connected: this.#round.qmp,
        streamEnded: snapshot ? streamEnded : undefined,
      });
    } catch (error) {
      const failure = toFailure(error, { member: location.member, where: 'undo' });
      this.#log.error({ failure }, 'could not put the VM right; its journal stays');
      how = 'unrepaired';
    }
    if (!keepShadow) {
      await this.#round.shadow?.discard().catch((error: unknown) => {
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
    this.#round.intake?.close();
    this.#round.qmp?.close();
    this.#onOver(how);
  }

  #sample(): void {
    const waits = this.#method?.waits ?? false;
    const sample = this.#round.meter.sample(this.#round.intake?.figures, waits);
    this.#round.addFacts({ sample });
    this.#notify({ type: 'sample', round: this.round, sample });
  }

  #report(action: SessionAction & { type: 'report' }): void {
    const { report, failure } = action;
    const { round } = this;
    this.#log.info({ report, ...(failure && { failure }) }, 'report');
    const carried: { failure?: Failure } = failure === undefined ? {} : { failure };
    this.#notify({ type: 'report', round, report, facts: this.#round.facts, ...carried });
  }
}
