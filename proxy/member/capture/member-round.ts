import type { QmpClient } from '../../../qmp/index.ts';
import type { StagingShadow } from '../../../shadow/index.ts';
import { memberFile } from '../../host/folders.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import { type IntakeEvents, type IntakeLimits, StreamIntake } from '../../intake/stream-intake.ts';
import type { MemberLocation, PrepareCommand, RoundFacts } from '../../protocol/member.ts';
import {
  applyMigration,
  type MigrationPlan,
  planMigration,
  type SavedSettings,
} from '../qemu/migration-settings.ts';
import { Journal } from '../repair/journal.ts';
import { LiveMeter } from './live-meter.ts';
import type { SessionEvent } from './session.ts';
import { whyStreamEnded } from './stream-end.ts';

/** Who enacts the session. */
export interface Enactor {
  handle(event: SessionEvent): void;
  failed(where: string, error: unknown): void;
  /** Between two waits of a step. @throws when the round is over */
  lookUp(): void;
}

export class MemberRound {
  readonly location: MemberLocation;
  readonly prepare: PrepareCommand;
  readonly journal: Journal;
  readonly meter = new LiveMeter(() => performance.now());
  readonly #enactor: Enactor;
  facts: RoundFacts = {};
  qmp: QmpClient | undefined;
  shadow: StagingShadow | undefined;
  intake: StreamIntake | undefined;
  saved: SavedSettings | undefined;
  result: StreamResult | undefined;
  /** We asked for the VM's stop, and it has not run since. */
  stopAsked = false;
  /** When its stream was let flow, by performance.now(); 0 before. */
  startedAt = 0;
  /** When it stopped, by performance.now(); 0 before. */
  stoppedAt = 0;

  constructor(location: MemberLocation, prepare: PrepareCommand, enactor: Enactor) {
    this.location = location;
    this.prepare = prepare;
    this.journal = new Journal(location.directory);
    this.#enactor = enactor;
  }

  handle(event: SessionEvent): void {
    this.#enactor.handle(event);
  }

  failed(where: string, error: unknown): void {
    this.#enactor.failed(where, error);
  }

  throwIfOver(): void {
    this.#enactor.lookUp();
  }

  addFacts(facts: RoundFacts): void {
    this.facts = { ...this.facts, ...facts };
  }

  get monitor(): QmpClient {
    if (this.qmp === undefined) throw new Error('no monitor connection');
    return this.qmp;
  }

  get staging(): StagingShadow {
    if (this.shadow === undefined) throw new Error('nothing was reserved');
    return this.shadow;
  }

  /** Sets QEMU's migration up, as it can be put back from the journal. @returns the plan applied */
  async setUp(background: boolean): Promise<MigrationPlan> {
    const plan = await planMigration(this.monitor, background);
    this.throwIfOver();
    const { capabilities, parameters } = plan.saved;
    const saved = { capabilities: [...capabilities], parameters: { ...parameters } };
    this.journal.write({ round: this.prepare.round, stopping: false, saved });
    this.saved = saved;
    await applyMigration(this.monitor, plan);
    this.throwIfOver();
    return plan;
  }

  /** Makes ready for the stream, of which the drive adds what is its own. */
  async receive(
    limits: Pick<IntakeLimits, 'keepBackPages' | 'mode'>,
    events: Pick<IntakeEvents, 'onConnected'> & Partial<IntakeEvents>,
  ): Promise<StreamIntake> {
    const { memoryBound, inFlightBytes } = this.prepare;
    const liveLimitBytes = memoryBound * (this.facts.reservedBytes ?? 0);
    this.intake = new StreamIntake(
      this.staging,
      { liveLimitBytes, inFlightBytes, ...limits },
      {
        onAllSeen: () => {},
        onFirstPage: () => {},
        onKeptBack: () => {},
        onWhole: (result) => this.whole(result),
        onError: (error) => void this.#onStreamError(error),
        ...events,
      },
    );
    await this.intake.listen(this.#socket);
    this.throwIfOver();
    return this.intake;
  }

  get #socket(): string {
    return memberFile(this.location.directory, 'migration');
  }

  async migrate(): Promise<void> {
    await this.monitor.execute('migrate', { uri: `unix:${this.#socket}` });
  }

  /** @param at when its last byte was there, by performance.now() */
  whole(result: StreamResult, at = performance.now()): void {
    this.result = result;
    const drainMs = this.stoppedAt === 0 ? 0 : at - this.stoppedAt;
    this.addFacts({ drainMs, passes: this.meter.passes, repeatedPages: this.#repeatedPages() });
    this.handle({ type: 'drained' });
  }

  /** Tells the cause; where the stream itself is at fault, that is its own. Never rejects. */
  async #onStreamError(error: unknown): Promise<void> {
    this.failed('stream', await whyStreamEnded(error, this.monitor));
  }

  #repeatedPages(): number {
    const { counters, sink } = this.intake ?? {};
    if (counters === undefined || sink === undefined) return 0;
    return Math.max(0, counters.normalPages + counters.zeroPages - sink.seenPages);
  }

  /** @param stopping a stop of ours is under way */
  noteStop(stopping: boolean): void {
    this.stopAsked = stopping;
    this.journal.note(stopping);
  }
}
