/**
 * Takes checkpoints that no operator asks for. Owns the timer; policies/interval.ts says how long
 * it runs.
 *
 *     start ──▶ WAITING ──time──▶ TAKING ──ended, committed or not──▶ WAITING …
 *                  └──────────────── stop ─────────────────┘
 *
 * A checkpoint that an operator asked for counts: the time runs anew from its end. One that cannot
 * be taken (the cluster is busy, a VM is gone) is shown in the log and in `umbra status`, and is
 * tried again after the next interval.
 */
import type { Logger } from 'pino';
import { nextInterval } from '../../../policies/index.ts';
import { type Failure, toFailure } from '../../failure/failure.ts';
import type { ScheduleConfig as Settings } from '../../protocol/cluster.ts';
import type { RoundReport } from '../../protocol/report.ts';
import type { ScheduleStatus } from '../../protocol/status.ts';

/** A failed first attempt is not repeated at once, though its cost is still unknown. */
const RETRY_MS = 10_000;

export class Schedule {
  readonly #settings: Settings;
  readonly #take: () => Promise<RoundReport>;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #taking = false;
  #costMs: number | undefined;
  #status: ScheduleStatus = { nextAt: undefined, reason: 'not begun', failure: undefined };

  /** @param take takes a checkpoint */
  constructor(settings: Settings, take: () => Promise<RoundReport>, log: Logger) {
    this.#settings = settings;
    this.#take = take;
    this.#log = log;
  }

  get status(): ScheduleStatus {
    return this.#status;
  }

  /** @param last the last round of an earlier life: what it cost is known */
  start(last?: RoundReport): void {
    this.#costMs = last && this.#costOf(last);
    this.#wait(nextInterval(this.#settings.interval, this.#costMs), undefined);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Takes note of a round that has ended, scheduled or not. */
  onRound(report: RoundReport): void {
    const costMs = this.#costOf(report);
    if (costMs === undefined) return;
    this.#costMs = costMs;
    this.#wait(nextInterval(this.#settings.interval, costMs), undefined);
  }

  /** Returns what a round cost the job, milliseconds; undefined if it was aborted. */
  #costOf({ failure, clusterDowntimeMs, members }: RoundReport): number | undefined {
    if (failure !== undefined || clusterDowntimeMs === undefined) return undefined;
    const liveMs = Math.max(0, ...members.map((member) => member.liveMs ?? 0));
    return clusterDowntimeMs + liveMs * this.#settings.liveSlowdown;
  }

  #wait({ ms, reason }: { ms: number; reason: string }, failure: Failure | undefined): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#status = { nextAt: new Date(Date.now() + ms).toISOString(), reason, failure };
    this.#timer = setTimeout(() => void this.#run(), ms);
  }

  async #run(): Promise<void> {
    if (this.#taking) return; // it is queued: its end sets the timer
    this.#taking = true;
    let failure: Failure | undefined;
    try {
      ({ failure } = await this.#take());
    } catch (error) {
      failure = toFailure(error, { where: 'schedule' });
    } finally {
      this.#taking = false;
    }
    if (failure === undefined) return; // onRound has set the timer
    this.#log.warn({ failure }, 'a scheduled checkpoint was not taken');
    const { ms, reason } = nextInterval(this.#settings.interval, this.#costMs);
    this.#wait({ ms: Math.max(ms, this.#costMs === undefined ? RETRY_MS : 0), reason }, failure);
  }
}
