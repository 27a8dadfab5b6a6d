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
import { join } from 'node:path';
import type { Logger } from 'pino';
import { QmpClient, type QmpEvent } from '../../qmp/index.ts';
import { type BlockLayout, openShadow, StagingShadow } from '../../shadow/index.ts';
import { isBroken } from '../broken.ts';
import { type Failure, toFailure, UmbraError } from '../failure.ts';
import { faultPoint } from '../fault-point.ts';
import { holdFrames, netdevs, releaseFrames } from './frame-hold.ts';
import { Journal } from './journal.ts';
import { LiveMeter } from './live-meter.ts';
import type { MemberNotice, MemberPlace, PrepareCommand, RoundFacts } from './messages.ts';
import { Pacing } from './pacing.ts';
import { putRight } from './put-right.ts';
import {
  applyMigration,
  awaitMigrationEnd,
  canHold,
  isSwitchover,
  makeRun,
  planMigration,
  precopyObstacle,
  ramBlocks,
  requireReady,
  restoreMigration,
  type SavedSettings,
  writableDisks,
} from './qemu.ts';
import {
  IDLE,
  LIVE,
  NEW_SESSION,
  type Session,
  type SessionAction,
  type SessionEvent,
  STATE_NAMES,
  STOPPED,
  STOPPING,
  step,
  UNDOING,
} from './session.ts';
import type { StreamResult } from './shadow-sink.ts';
import { StreamIntake } from './stream-intake.ts';

const PAGE_SIZE = 4096;
const SAMPLE_INTERVAL_MS = 100;
/**
 * What a QEMU without switchover-ack keeps of its first pass while it waits for others: 8 MiB, a few
 * milliseconds of the drain. More than what the socket takes while we are not looking.
 */
const KEEP_BACK_PAGES = 2048;
/** How long putting a VM right is tried before another process is left to it. */
const UNDO_LIMIT_MS = 60_000;

/** Thrown by a step that finds the round over; told to nobody. */
class RoundOver extends Error {}

export class Capture {
  readonly #place: MemberPlace;
  readonly #prepare: PrepareCommand;
  readonly #notify: (notice: MemberNotice) => void;
  readonly #onOver: (how: 'as it was' | 'not put right') => void;
  readonly #log: Logger;
  readonly #journal: Journal;
  readonly #over = new AbortController();
  #session: Session = NEW_SESSION;
  #facts: RoundFacts = {};
  readonly #meter = new LiveMeter();
  #step: Promise<void> = Promise.resolve();
  #qmp: QmpClient | undefined;
  #shadow: StagingShadow | undefined;
  #intake: StreamIntake | undefined;
  #saved: SavedSettings | undefined;
  #result: StreamResult | undefined;
  #holds = false;
  #stopFirst = false;
  /** A background snapshot: in the state it was in at its cut, memory is saved while the VM runs on. */
  #background = false;
  /** Backends whose frames are held from before the cut until all have been cut (frame-hold.ts). */
  #held: readonly string[] = [];
  /** QEMU let the VM run on by itself after the cut, as 7.2 does. */
  #ranOn = false;
  #holdsFrames = false;
  #stopAsked = false;
  #deadline: NodeJS.Timeout | undefined;
  #sampler: NodeJS.Timeout | undefined;
  #pacing: Pacing | undefined;
  #startedAt = 0;
  #stoppedAt = 0;

  /** @param onOver called once, when the session is idle again */
  constructor(
    place: MemberPlace,
    prepare: PrepareCommand,
    notify: (notice: MemberNotice) => void,
    onOver: (how: 'as it was' | 'not put right') => void,
    log: Logger,
  ) {
    this.#place = place;
    this.#prepare = prepare;
    this.#notify = notify;
    this.#onOver = onOver;
    this.#log = log.child({ round: prepare.round });
    this.#journal = new Journal(place.directory);
  }

  get round(): string {
    return this.#prepare.round;
  }

  /** Opens or closes the member's slot; a stream that is being drained flows regardless. */
  slot(open: boolean): void {
    this.#intake?.slot(open);
  }

  /** Takes a command of the coordinator, or what happened. */
  handle(event: SessionEvent): void {
    const before = this.#session.state;
    const { session, actions } = step(this.#session, event);
    this.#session = session;
    if (session.state !== before) {
      this.#log.debug({ event: event.type, state: STATE_NAMES[session.state] }, 'session');
      faultPoint(`member/${this.#place.member}/${STATE_NAMES[session.state]}`);
    }
    for (const action of actions) this.#enact(action);
  }

  /** The end is near: slots and pacing are over, so that little is left when it comes. */
  closeIn(): void {
    this.#intake?.slot(true);
    this.#pacing?.closeIn();
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
        this.#intake?.vote();
        break;
      case 'resume':
        this.#attempt('resume', () => this.#resume());
        break;
      case 'seal':
        this.#attempt('seal', () => this.#seal());
        break;
      case 'release':
        this.#end('as it was');
        break;
      case 'undo':
        void this.#undo(action.keepShadow);
        break;
      case 'arm-deadline':
        this.#deadline = setTimeout(
          () => this.handle({ type: 'deadline' }),
          this.#prepare.stopDeadlineMs,
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
    const failure = toFailure(error, { member: this.#place.member, where });
    this.#log.warn({ failure, state: STATE_NAMES[state] }, 'member failed');
    this.handle({ type: 'failed', failure });
  }

  async #admit(): Promise<void> {
    const qmp = await QmpClient.connect(this.#place.qmp, { signal: this.#over.signal });
    this.#qmp = qmp;
    qmp.onEvent((event) => this.#onQmpEvent(event));
    void qmp.closed.then((error) => this.#failed('qmp', error));
    await requireReady(qmp);
    await this.#chooseCapture(qmp);
    const disks = await writableDisks(qmp);
    if (disks.length > 0) this.#learn({ writableDisks: disks });
    const blocks = await ramBlocks(qmp);
    this.#lookUp();
    this.#shadow = await this.#reserve(blocks);
    this.#lookUp();
    const reservedBytes = blocks.reduce((sum, { length }) => sum + length, 0);
    const { major, minor, micro } = qmp.version;
    this.#learn({ reservedBytes, qemuVersion: `${major}.${minor}.${micro}` });
    this.handle({ type: 'admitted', background: this.#background });
  }

  /**
   * A VM that stands while it is copied must not wait for fresh memory: there all of it is taken at
   * once, and for a delta what is expected of it, mostly memory used before. A whole shadow of a VM
   * that runs is given memory as its pages come, for nobody knows how many are zeros.
   */
  async #reserve(blocks: readonly BlockLayout[]): Promise<StagingShadow> {
    const { member } = this.#place;
    const { round, shadowDirectory: directory, spareDirectory: spares, staging } = this.#prepare;
    const { base: name, admittedBytes, moreBytes, headroomBytes } = staging;
    const base = name && (await openShadow(name.directory, name.sha256));
    const mayGrow = base === undefined && !this.#stopFirst;
    const reservedBytes = mayGrow ? 0 : admittedBytes;
    const terms = { base, reservedBytes, headroomBytes };
    this.#learn({ stored: base === undefined ? 'full' : 'delta' });
    return StagingShadow.reserve({ directory, member, round, spares }, blocks, PAGE_SIZE, {
      ...terms,
      moreBytes: moreBytes + admittedBytes - reservedBytes,
    });
  }

  async #chooseCapture(qmp: QmpClient): Promise<void> {
    const { capture } = this.#prepare;
    const obstacle = await precopyObstacle(qmp);
    if (capture === 'precopy' && obstacle !== undefined) {
      throw new UmbraError({ code: 'E_CAPTURE_UNSAFE', message: obstacle });
    }
    this.#background = capture === 'background';
    this.#stopFirst = capture !== 'precopy' && (capture !== 'auto' || obstacle !== undefined);
    this.#meter.waits = this.#stopFirst;
    const chosen = this.#stopFirst ? 'stop-copy' : 'precopy';
    this.#learn({
      capture: this.#background ? 'background' : chosen,
      ...(capture === 'auto' && obstacle !== undefined && { captureReason: obstacle }),
    });
  }

  async #open(): Promise<void> {
    const { qmp, shadow } = this.#admitted();
    const plan = await planMigration(qmp, this.#background);
    this.#lookUp();
    const { capabilities, parameters } = plan.saved;
    const saved = { capabilities: [...capabilities], parameters: { ...parameters } };
    this.#journal.write({ round: this.round, stopping: false, saved });
    this.#saved = saved;
    await applyMigration(qmp, plan).catch((cause: unknown) => {
      throw this.#background ? cannotSnapshot(cause) : cause;
    });
    this.#lookUp();
    this.#holds = !this.#background && (await canHold(qmp));
    const { memoryBound, inFlightBytes } = this.#prepare;
    const liveLimitBytes = memoryBound * (this.#facts.reservedBytes ?? 0);
    const keepBackPages = this.#holds ? 0 : KEEP_BACK_PAGES;
    const mode = this.#background ? 'background' : 'precopy';
    const limits = { liveLimitBytes, inFlightBytes, keepBackPages, mode } as const;
    this.#intake = new StreamIntake(shadow, limits, {
      onConnected: () => this.#onConnected(),
      onAllSeen: () => this.#pacing?.onAllSeen(),
      onFirstPage: () => {
        if (this.#background) this.handle({ type: 'vm-stopped' }); // its state is taken
      },
      onKeptBack: () => {
        this.#pacing?.keepBack();
        this.#sampleLive();
      },
      onWhole: (result) => this.#onWhole(result),
      onError: (error) => this.#failed('stream', error),
    });
    this.#pacing = new Pacing(qmp, this.#intake, this.#meter, plan.canTrickle);
    await this.#intake.listen(this.#migrationSocket);
    this.#lookUp();
    if (this.#stopFirst) this.handle({ type: 'streaming' });
    else await this.#migrate(qmp);
  }

  get #migrationSocket(): string {
    return join(this.#place.directory, 'migration.sock');
  }

  async #migrate(qmp: QmpClient): Promise<void> {
    await qmp.execute('migrate', { uri: `unix:${this.#migrationSocket}` });
  }

  /** A VM that stands is never kept waiting; a running one waits for the coordinator's start. */
  #onConnected(): void {
    if (this.#stopFirst) this.#intake?.drain();
    else this.handle({ type: 'streaming' });
  }

  #onWhole(result: StreamResult): void {
    this.#result = result;
    const drainMs = this.#stoppedAt === 0 ? 0 : performance.now() - this.#stoppedAt;
    this.#learn({ drainMs, passes: this.#meter.passes, repeatedPages: this.#repeatedPages() });
    this.handle({ type: 'drained' });
  }

  #repeatedPages(): number {
    const { counters, sink } = this.#intake ?? {};
    if (counters === undefined || sink === undefined) return 0;
    return Math.max(0, counters.normalPages + counters.zeroPages - sink.seenPages);
  }

  /** The stream flows from here on when the coordinator opens the member's slot. */
  #start(): void {
    this.#startedAt = performance.now();
    this.#intake?.clock.start();
    this.#sample();
    this.#sampler = setInterval(() => this.#tick(), SAMPLE_INTERVAL_MS);
  }

  #onQmpEvent(event: QmpEvent): void {
    switch (event.name) {
      case 'STOP':
        this.#onVmStopped(event.timestampUs);
        break;
      case 'RESUME':
        this.#onVmResumed(event.timestampUs);
        break;
      case 'MIGRATION_PASS':
        this.#onPass(Number(event.data.pass));
        break;
      case 'MIGRATION':
        this.#onMigration(String(event.data.status));
        break;
    }
  }

  #onVmStopped(stoppedAtUs: number): void {
    this.#intake?.drain();
    this.#stoppedAt = performance.now();
    const liveBytes = this.#intake?.position ?? 0;
    const liveMs = this.#startedAt === 0 ? 0 : this.#stoppedAt - this.#startedAt;
    const flowedMs = this.#intake?.clock.flowedMs ?? 0;
    const flow = this.#intake?.clock.end() ?? [];
    this.#learn({ stoppedAtUs, liveBytes, liveMs, heldMs: Math.max(0, liveMs - flowedMs), flow });
    if (this.#background && this.#stopAsked) return; // its state is not taken yet
    if (this.#stopAsked) this.handle({ type: 'vm-stopped' });
    else void this.#whoStopped().catch((error: unknown) => this.#failed('stop', error));
  }

  #onVmResumed(resumedAtUs: number): void {
    const { state } = this.#session;
    this.#learn({ resumedAtUs });
    const early = state === STOPPING || state === STOPPED;
    if (this.#background && early && this.#holdsFrames) {
      this.#ranOn = true; // nobody hears of it before the barrier
      return;
    }
    if (this.#background && early) {
      this.#failed('barrier', runsOnUnheld(this.#facts.framesNotHeld));
      return;
    }
    this.#stopAsked = false;
    this.#journal.note(false);
    this.handle({ type: 'vm-resumed' });
  }

  /** QEMU stops a VM to switch over; any other stop is its operator's, and none of our business. */
  async #whoStopped(): Promise<void> {
    const { status } = await this.#monitor().execute('query-status');
    if (this.#stopAsked || isSwitchover(status)) {
      this.handle({ type: 'vm-stopped' });
      return;
    }
    const message = `the VM was stopped by someone else (${status}); it is left so`;
    throw new UmbraError({ code: 'E_VM_PAUSED', message });
  }

  /** The first pass is done when the second begins. */
  #onPass(pass: number): void {
    this.#meter.onPass(pass);
    if (pass < 2 || this.#session.state !== LIVE) return;
    this.#pacing?.onPass(() => this.#sampleLive());
  }

  #tick(): void {
    if (this.#session.state === LIVE && !this.#stopFirst) void this.#askAndTell();
    else this.#sample();
  }

  async #askAndTell(): Promise<void> {
    await this.#meter.ask(this.#monitor());
    this.#pacing?.onNews();
    this.#sampleLive();
  }

  #sampleLive(): void {
    if (this.#session.state === LIVE) this.#sample();
  }

  #onMigration(status: string): void {
    if (status !== 'failed' && status !== 'cancelled') return;
    const message = `QEMU reports its migration ${status}`;
    this.#failed('migration', new UmbraError({ code: 'E_MIGRATION_FAILED', message }));
  }

  async #stop(): Promise<void> {
    const qmp = this.#monitor();
    this.#stopAsked = true;
    this.#journal.note(true);
    this.#pacing?.closeIn();
    this.#pacing?.end();
    if (this.#background) await this.#holdFrames(qmp);
    const stopped = qmp.execute('stop');
    if (this.#holds) this.#intake?.allowSwitchover();
    this.#intake?.letGo(); // until the VM has stopped, the live limit stands
    await stopped;
    this.#intake?.drain();
    this.#lookUp();
    if (this.#stopFirst) await this.#migrate(qmp);
  }

  /** Before the VM stops: that takes milliseconds, and need not be among those it stands. */
  async #holdFrames(qmp: QmpClient): Promise<void> {
    const held = isBroken('hold') ? [] : await netdevs(qmp);
    this.#journal.hold(held);
    try {
      await holdFrames(qmp, held);
      this.#held = held;
      this.#holdsFrames = true;
    } catch (error) {
      // All stop before any runs on, then, or the round fails: some QEMUs let them run by themselves.
      await releaseFrames(qmp, held);
      this.#learn({ framesNotHeld: toFailure(error, {}).message });
    }
  }

  async #resume(): Promise<void> {
    const qmp = this.#monitor();
    if (!this.#ranOn) await makeRun(qmp, this.#prepare.stopDeadlineMs);
    if (!this.#background) return;
    await releaseFrames(qmp, this.#held);
    this.#learn({ protocol: this.#ranOn ? 'frames held' : 'all stopped' });
    if (!this.#ranOn) return;
    this.#stopAsked = false;
    this.#journal.note(false);
    this.#learn({ releasedAtUs: (performance.timeOrigin + performance.now()) * 1000 });
    this.handle({ type: 'vm-resumed' });
  }

  async #seal(): Promise<void> {
    const sealingAt = performance.now();
    clearInterval(this.#sampler);
    const { qmp, shadow } = this.#admitted();
    const result = this.#result;
    if (result === undefined) throw new Error('sealing before the stream was whole');
    if (this.#background) await awaitMigrationEnd(qmp, this.#prepare.stopDeadlineMs);
    await this.#requireAccounting(qmp);
    const { name = '' } = await qmp.execute('query-name');
    const { UUID: uuid } = await qmp.execute('query-uuid');
    const drainBytes = (this.#intake?.position ?? 0) - (this.#facts.liveBytes ?? 0);
    this.#learn({ drainBytes });
    this.#sample();
    this.#lookUp();
    this.#intake?.close();
    if (this.#saved !== undefined) await restoreMigration(qmp, this.#saved);
    this.#lookUp();
    this.#journal.remove();
    const sealed = await shadow.seal({
      ...result,
      identity: {
        machineType: this.#intake?.sink.machineType ?? '',
        qemuVersion: this.#facts.qemuVersion ?? '',
        uuid,
        name,
        commandLine: [...this.#prepare.commandLine],
        workingDirectory: this.#prepare.workingDirectory,
      },
    });
    const { sha256, storedBytes } = sealed;
    this.#learn({ shadow: sha256, storedBytes, sealMs: performance.now() - sealingAt });
    this.handle({ type: 'sealed' });
  }

  /**
   * The pages we took in must be the pages QEMU says it sent. XBZRLE pages are left out: QEMU
   * counts those it looked at and found unchanged, too.
   */
  async #requireAccounting(qmp: QmpClient): Promise<void> {
    const { ram } = await qmp.execute('query-migrate');
    const counters = this.#intake?.counters;
    if (ram === undefined || counters === undefined) return;
    const { normalPages, zeroPages } = counters;
    if (ram.normal === normalPages && ram.duplicate === zeroPages) return;
    throw new UmbraError({
      code: 'E_ACCOUNTING',
      message:
        `QEMU sent ${ram.normal} normal and ${ram.duplicate} zero pages, ` +
        `but ${normalPages} and ${zeroPages} arrived`,
    });
  }

  /** Leaves the VM as it was found, and nothing behind. */
  async #undo(keepShadow: boolean): Promise<void> {
    clearInterval(this.#sampler);
    this.#pacing?.end();
    this.#intake?.close(); // first: it unblocks the monitor of a stopped VM
    if (this.#qmp === undefined) this.#over.abort();
    await this.#step;
    this.#intake?.close();
    let how: 'as it was' | 'not put right' = 'as it was';
    try {
      await putRight(this.#place.qmp, this.#journal, UNDO_LIMIT_MS, this.#qmp);
    } catch (error) {
      const failure = toFailure(error, { member: this.#place.member, where: 'undo' });
      this.#log.error({ failure }, 'could not put the VM right; its journal stays');
      how = 'not put right';
    }
    if (!keepShadow) {
      await this.#shadow?.discard().catch((error: unknown) => {
        this.#log.error({ err: error }, 'could not remove the staged shadow');
      });
    }
    if (how === 'as it was') this.handle({ type: 'undone' });
    this.#end(how);
  }

  #end(how: 'as it was' | 'not put right'): void {
    clearInterval(this.#sampler);
    this.#pacing?.end();
    clearTimeout(this.#deadline);
    this.#intake?.close();
    this.#qmp?.close();
    this.#onOver(how);
  }

  #sample(): void {
    const sample = this.#meter.sample(this.#intake);
    this.#learn({ sample });
    this.#notify({ type: 'sample', round: this.round, sample });
  }

  #report(action: SessionAction & { type: 'report' }): void {
    const { report, failure } = action;
    const { round } = this;
    this.#log.info({ report, ...(failure && { failure }) }, 'report');
    const carried: { failure?: Failure } = failure === undefined ? {} : { failure };
    this.#notify({ type: 'report', round, report, facts: this.#facts, ...carried });
  }

  #learn(facts: RoundFacts): void {
    this.#facts = { ...this.#facts, ...facts };
  }

  #monitor(): QmpClient {
    if (this.#qmp === undefined) throw new Error('no monitor connection');
    return this.#qmp;
  }

  #admitted(): { qmp: QmpClient; shadow: StagingShadow } {
    if (this.#shadow === undefined) throw new Error('nothing was reserved');
    return { qmp: this.#monitor(), shadow: this.#shadow };
  }
}

/** QEMU itself knows best whether it can: kernel, memory backends, devices, capabilities. */
function cannotSnapshot(cause: unknown): UmbraError {
  const message = `QEMU cannot take a background snapshot: ${(cause as Error).message}`;
  return new UmbraError({ code: 'E_BACKGROUND_UNSUPPORTED', message }, cause);
}

function runsOnUnheld(why = 'it was resumed by someone'): UmbraError {
  const message = `the VM ran on after its snapshot before all were cut, and was not silent: ${why}`;
  return new UmbraError({ code: 'E_RESUMED_EARLY', message });
}
