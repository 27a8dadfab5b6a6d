/**
 * Enacts a member's session: does what session.ts says with a real QEMU, a real stream and a real
 * shadow, and feeds back what happened.
 *
 *     QMP events ─┐                          ┌▶ QMP commands
 *     stream ─────┼─▶ step(session, event) ──┼▶ votes on the return path
 *     commands ───┘                          └▶ staging shadow, reports
 *
 * Only reading is ever paused, and only while the VM runs: once it has stopped, an unread stream
 * would block QEMU's monitor (design notes: "never pace a stopped VM").
 */
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { QmpClient, type QmpEvent } from '../../qmp/index.ts';
import { StagingShadow } from '../../shadow/index.ts';
import { type Failure, toFailure, UmbraError } from '../failure.ts';
import { faultPoint } from '../fault-point.ts';
import { PrecopyDecoder } from '../stream/decoder.ts';
import { pong, shut, switchoverAck } from '../stream/return-path.ts';
import { Journal } from './journal.ts';
import type { MemberNotice, MemberPlace, PrepareCommand, RoundFacts } from './messages.ts';
import { MigrationListener } from './migration-listener.ts';
import {
  cancelMigration,
  canHold,
  configureMigration,
  makeRun,
  precopyObstacle,
  ramBlocks,
  requireReady,
  restoreMigration,
  type SavedSettings,
} from './qemu.ts';
import {
  IDLE,
  LIVE,
  NEW_SESSION,
  type Session,
  type SessionAction,
  type SessionEvent,
  STATE_NAMES,
  step,
} from './session.ts';
import { ShadowSink, type StreamResult } from './shadow-sink.ts';

const PAGE_SIZE = 4096;
const SAMPLE_INTERVAL_MS = 100;
/** Undoing must end, too: long enough for a loaded host, shorter than anyone's patience. */
const UNDO_DEADLINE_MS = 5_000;

export class Capture {
  readonly #place: MemberPlace;
  readonly #prepare: PrepareCommand;
  readonly #notify: (notice: MemberNotice) => void;
  readonly #onOver: () => void;
  readonly #log: Logger;
  readonly #journal: Journal;
  #session: Session = NEW_SESSION;
  #facts: RoundFacts = {};
  #qmp: QmpClient | undefined;
  #shadow: StagingShadow | undefined;
  #saved: SavedSettings | undefined;
  #listener: MigrationListener | undefined;
  #stream: Socket | undefined;
  #decoder: PrecopyDecoder | undefined;
  #sink: ShadowSink | undefined;
  #result: StreamResult | undefined;
  #returnPath = false;
  #holds = false;
  #stopFirst = false;
  #passes = 0;
  /** The VM ran when the round began, so it must run when the round is over. */
  #mustRun = false;
  #deadline: NodeJS.Timeout | undefined;
  #sampler: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #stoppedAt = 0;

  /** @param onOver called once, when the session is idle again */
  constructor(
    place: MemberPlace,
    prepare: PrepareCommand,
    notify: (notice: MemberNotice) => void,
    onOver: () => void,
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
        this.#stream?.write(shut(0));
        break;
      case 'resume':
        this.#attempt('resume', () => this.#resume());
        break;
      case 'seal':
        this.#attempt('seal', () => this.#seal());
        break;
      case 'release':
        void this.#release();
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
    work().catch((error: unknown) => this.#failed(where, error));
  }

  #failed(where: string, error: unknown): void {
    if (this.#session.state === IDLE) return;
    const failure = toFailure(error, { member: this.#place.member, where });
    this.#log.warn({ failure, state: STATE_NAMES[this.#session.state] }, 'member failed');
    this.handle({ type: 'failed', failure });
  }

  async #admit(): Promise<void> {
    const qmp = await QmpClient.connect(this.#place.qmp);
    this.#qmp = qmp;
    qmp.onEvent((event) => this.#onQmpEvent(event));
    void qmp.closed.then((error) => this.#failed('qmp', error));
    await requireReady(qmp);
    this.#mustRun = true;
    await this.#chooseCapture(qmp);
    const blocks = await ramBlocks(qmp);
    const { member } = this.#place;
    const { round, shadowDirectory } = this.#prepare;
    this.#shadow = StagingShadow.reserve(shadowDirectory, { member, round }, blocks, PAGE_SIZE);
    const reservedBytes = blocks.reduce((sum, { length }) => sum + length, 0);
    const { major, minor, micro } = qmp.version;
    this.#learn({ reservedBytes, qemuVersion: `${major}.${minor}.${micro}` });
    this.handle({ type: 'admitted' });
  }

  async #open(): Promise<void> {
    const qmp = this.#requireQmp();
    const saved = await configureMigration(qmp);
    this.#saved = saved;
    this.#journal.write({
      round: this.round,
      saved: { capabilities: [...saved.capabilities], parameters: saved.parameters },
    });
    this.#holds = await canHold(qmp);
    const path = join(this.#place.directory, 'migration.sock');
    this.#listener = await MigrationListener.open(path, (socket) => this.#onStream(socket));
    if (this.#stopFirst) this.handle({ type: 'streaming' });
    else await this.#migrate();
  }

  async #chooseCapture(qmp: QmpClient): Promise<void> {
    const { capture } = this.#prepare;
    const obstacle = await precopyObstacle(qmp);
    if (capture === 'precopy' && obstacle !== undefined) {
      throw new UmbraError({ code: 'E_CAPTURE_UNSAFE', message: obstacle });
    }
    this.#stopFirst = capture === 'stop-copy' || obstacle !== undefined;
    this.#learn({
      capture: this.#stopFirst ? 'stop-copy' : 'precopy',
      ...(capture === 'auto' && obstacle !== undefined && { captureReason: obstacle }),
    });
  }

  async #migrate(): Promise<void> {
    const { path } = this.#requireListener();
    await this.#requireQmp().execute('migrate', { uri: `unix:${path}` });
  }

  #onStream(socket: Socket): void {
    const shadow = this.#shadow;
    if (shadow === undefined) return;
    this.#stream = socket;
    const sink = new ShadowSink(shadow, {
      onReturnPath: () => {
        this.#returnPath = true;
      },
      onPing: (value) => socket.write(pong(value)),
      onComplete: (result) => this.#onComplete(result),
    });
    const decoder = new PrecopyDecoder(sink);
    this.#sink = sink;
    this.#decoder = decoder;
    socket.on('data', (chunk: Buffer) => {
      try {
        sink.begin(chunk);
        decoder.write(chunk);
        sink.end();
      } catch (error) {
        socket.destroy();
        this.#failed('stream', error);
      }
    });
    socket.on('end', () => this.#onStreamEnd(decoder));
    socket.on('error', (error) => this.#failed('stream', error));
    // A VM that stands is never kept waiting; a running one waits for the coordinator's start.
    if (this.#stopFirst) socket.resume();
    else this.handle({ type: 'streaming' });
  }

  #onStreamEnd(decoder: PrecopyDecoder): void {
    try {
      decoder.end();
    } catch (error) {
      this.#failed('stream', error);
    }
  }

  #onComplete(result: StreamResult): void {
    this.#result = result;
    const drainMs = this.#stoppedAt === 0 ? 0 : performance.now() - this.#stoppedAt;
    this.#learn({ drainMs });
    this.handle({ type: 'drained' });
  }

  #start(): void {
    this.#startedAt = performance.now();
    this.#sample();
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);
    this.#stream?.resume();
  }

  #onQmpEvent(event: QmpEvent): void {
    switch (event.name) {
      case 'STOP':
        this.#onVmStopped(event.timestampUs);
        break;
      case 'RESUME':
        this.#learn({ resumedAtUs: event.timestampUs });
        this.handle({ type: 'vm-resumed' });
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
    this.#stream?.resume();
    this.#stoppedAt = performance.now();
    const liveBytes = this.#decoder?.position ?? 0;
    this.#learn({ stoppedAtUs, liveBytes, liveMs: this.#stoppedAt - this.#startedAt });
    this.handle({ type: 'vm-stopped' });
  }

  /**
   * The first pass is done when the second begins. A member that is ahead is held by not reading:
   * the source's socket fills, and its VM runs on.
   */
  #onPass(pass: number): void {
    this.#passes = pass;
    if (pass === 2 && this.#session.state === LIVE) {
      this.#sample();
      this.#stream?.pause();
    }
  }

  #onMigration(status: string): void {
    if (status !== 'failed' && status !== 'cancelled') return;
    const message = `QEMU reports its migration ${status}`;
    this.#failed('migration', new UmbraError({ code: 'E_MIGRATION_FAILED', message }));
  }

  async #stop(): Promise<void> {
    const stopped = this.#requireQmp().execute('stop');
    if (this.#holds && this.#returnPath) this.#stream?.write(switchoverAck());
    this.#stream?.resume();
    await stopped;
    if (this.#stopFirst) await this.#migrate();
  }

  async #resume(): Promise<void> {
    await makeRun(this.#requireQmp(), this.#prepare.stopDeadlineMs);
  }

  async #seal(): Promise<void> {
    const sealingAt = performance.now();
    clearInterval(this.#sampler);
    const { qmp, shadow, result, sink } = this.#complete();
    await this.#requireAccounting(qmp);
    const { name = '' } = await qmp.execute('query-name');
    const { UUID: uuid } = await qmp.execute('query-uuid');
    const drainBytes = (this.#decoder?.position ?? 0) - (this.#facts.liveBytes ?? 0);
    this.#learn({ drainBytes });
    this.#sample();
    this.#listener?.close();
    if (this.#saved !== undefined) await restoreMigration(qmp, this.#saved);
    this.#journal.remove();
    const sealed = await shadow.seal({
      ...result,
      identity: {
        machineType: sink.machineType,
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
    const counters = this.#decoder?.counters;
    if (ram === undefined || counters === undefined) return;
    const normal = counters.normalPages;
    if (ram.normal === normal && ram.duplicate === counters.zeroPages) return;
    throw new UmbraError({
      code: 'E_ACCOUNTING',
      message:
        `QEMU sent ${ram.normal} normal and ${ram.duplicate} zero pages, ` +
        `but ${normal} and ${counters.zeroPages} arrived`,
    });
  }

  async #release(): Promise<void> {
    this.#end();
  }

  /** Leaves the VM running as it was found, and nothing behind. */
  async #undo(keepShadow: boolean): Promise<void> {
    clearInterval(this.#sampler);
    this.#listener?.close(); // first: it unblocks the monitor of a stopped VM
    const qmp = this.#qmp;
    try {
      if (this.#mustRun && qmp?.isOpen === true) {
        await cancelMigration(qmp, UNDO_DEADLINE_MS);
        await makeRun(qmp, UNDO_DEADLINE_MS);
        if (this.#saved !== undefined) await restoreMigration(qmp, this.#saved);
        this.#journal.remove();
      }
    } catch (error) {
      const failure = toFailure(error, { member: this.#place.member, where: 'undo' });
      this.#log.error({ failure }, 'could not put the VM right; its journal stays');
    }
    if (!keepShadow) {
      await this.#shadow?.discard().catch((error: unknown) => {
        this.#log.error({ error }, 'could not remove the staged shadow');
      });
    }
    this.handle({ type: 'undone' });
    this.#end();
  }

  #end(): void {
    clearInterval(this.#sampler);
    clearTimeout(this.#deadline);
    this.#listener?.close();
    this.#qmp?.close();
    this.#onOver();
  }

  #sample(): void {
    const counters = this.#decoder?.counters;
    const sample = {
      bytes: this.#decoder?.position ?? 0,
      seenPages: this.#sink?.seenPages ?? 0,
      totalPages: this.#sink?.totalPages ?? 0,
      normalPages: counters?.normalPages ?? 0,
      zeroPages: counters?.zeroPages ?? 0,
      passes: this.#passes,
      waits: this.#stopFirst,
    };
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

  #requireListener(): MigrationListener {
    if (this.#listener === undefined) throw new Error('no listener');
    return this.#listener;
  }

  #requireQmp(): QmpClient {
    if (this.#qmp === undefined) throw new Error('no monitor connection');
    return this.#qmp;
  }

  #complete() {
    const shadow = this.#shadow;
    const result = this.#result;
    const sink = this.#sink;
    if (shadow === undefined || result === undefined || sink === undefined) {
      throw new Error('sealing before the stream was complete');
    }
    return { qmp: this.#requireQmp(), shadow, result, sink };
  }
}
