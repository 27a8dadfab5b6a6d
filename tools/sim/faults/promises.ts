/**
 * Promises that must be kept, whatever goes wrong:
 *
 *     whole      an epoch that is listed brings back every member's memory as it was at its cut
 *     cut        no member resumed before the last one had stopped: so no message is received that
 *                was not sent, whatever the guests send
 *     deadline   no guest is stopped for longer than the deadline; if its own proxy or QEMU fails
 *                then, the time to notice that is added
 *     kept       what was reported as committed is there, until it is retired
 *     disk       what is listed on disk is whole there, also after the power was cut
 *     budget     shadows never take more than the budget
 *     tidy       in the end all guests run, no journal is left, and no shadow that no epoch needs
 */
import type { Memory } from './guest.ts';
import { PAGES } from './guest.ts';
import type { ModelledEpoch, ModelledStore } from './store.ts';
import { DEADLINE_MS, type Seat, SILENCE_MS } from './terms.ts';

/** Noticing a frozen part takes its silence; starting another and putting right takes the rest. */
const NOTICE_MS = SILENCE_MS + 400;

interface Cut {
  readonly memory: Memory;
  readonly atMs: number;
  resumedAtMs: number;
}

export class Promises {
  readonly violations: string[] = [];
  readonly #store: ModelledStore;
  readonly #now: () => number;
  /** Until when what has happened to a member's own proxy, or QEMU, may keep it standing. */
  readonly #struck = new Map<string, number>();
  /** The longest that a guest stood to whose proxy nothing had happened, milliseconds. */
  longestMs = 0;
  /** Cuts by round, then by member. */
  readonly #cuts = new Map<number, Map<string, Cut>>();
  readonly #committed = new Set<number>();

  constructor(store: ModelledStore, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  broken(what: string): void {
    this.violations.push(`${this.#now().toFixed(1)} ms: ${what}`);
  }

  cut(round: number, member: string, memory: Memory): void {
    const cuts = this.#cuts.get(round) ?? new Map<string, Cut>();
    const resumedAtMs = Number.POSITIVE_INFINITY;
    this.#cuts.set(round, cuts.set(member, { memory, atMs: this.#now(), resumedAtMs }));
  }

  /** @param ms for how long it lasts */
  struck(member: string, ms: number): void {
    const untilMs = this.#now() + ms + NOTICE_MS;
    this.#struck.set(member, Math.max(untilMs, this.#struck.get(member) ?? 0));
  }

  resumed(member: string, stoodMs: number): void {
    const isStruck = (this.#struck.get(member) ?? 0) > this.#now() - stoodMs;
    if (!isStruck) this.longestMs = Math.max(this.longestMs, stoodMs);
    if (stoodMs > DEADLINE_MS + (isStruck ? NOTICE_MS : 0)) {
      this.broken(`deadline: ${member} stood for ${stoodMs.toFixed(0)} ms`);
    }
    for (const cuts of this.#cuts.values()) {
      const cut = cuts.get(member);
      if (cut?.resumedAtMs === Number.POSITIVE_INFINITY) cut.resumedAtMs = this.#now();
    }
  }

  /** Notes that a folded epoch's shadows are of the cut they were folded from. */
  copyRound(from: number, to: number): void {
    const cuts = this.#cuts.get(from);
    if (cuts !== undefined) this.#cuts.set(to, cuts);
  }

  published(epoch: ModelledEpoch): void {
    this.#requireWhole(epoch, this.#store.restore(epoch), 'whole');
    const cuts = [...(this.#cuts.get(epoch.round)?.entries() ?? [])];
    const last = Math.max(...cuts.map(([, { atMs }]) => atMs));
    for (const [member, { resumedAtMs }] of cuts) {
      if (resumedAtMs < last) {
        const early = (last - resumedAtMs).toFixed(2);
        this.broken(
          `cut: ${member} ran ${early} ms before the last member of epoch ${epoch.epoch} stopped`,
        );
      }
    }
  }

  committed(epoch: number): void {
    this.#committed.add(epoch);
    if (!this.#store.epochs.has(epoch))
      this.broken(`kept: epoch ${epoch} was reported, and is not there`);
  }

  retired(epoch: number): void {
    this.#committed.delete(epoch);
  }

  powerLost(): void {
    this.#committed.clear();
    for (const { epoch, shadows } of this.#store.disk.values()) {
      this.#requireWhole(epoch, shadows, 'disk');
    }
  }

  atEnd(seats: readonly Seat[], budgetShadows: number): void {
    for (const epoch of this.#store.epochs.values()) {
      this.#requireWhole(epoch, this.#store.restore(epoch), 'whole');
    }
    for (const { epoch, shadows } of this.#store.disk.values()) {
      this.#requireWhole(epoch, shadows, 'disk');
    }
    for (const epoch of this.#committed) {
      if (!this.#store.epochs.has(epoch)) this.broken(`kept: epoch ${epoch} is lost`);
    }
    if (this.#store.mostPages > budgetShadows * seats.length * PAGES) {
      this.broken(`budget: shadows took ${this.#store.mostPages} pages`);
    }
    for (const { name, guest } of seats) {
      if (!guest.runs) this.broken(`tidy: ${name} does not run`);
    }
    const needed = new Set<number>();
    for (const { round, members } of this.#store.epochs.values()) {
      needed.add(round);
      for (const member of members) {
        for (const one of this.#store.chain(round, member)) needed.add(one);
      }
    }
    for (const [round, shadows] of this.#store.rounds) {
      if (!needed.has(round) && shadows.size > 0)
        this.broken(`tidy: shadows of round ${round} are left`);
    }
  }

  #requireWhole(
    { epoch, round, members }: ModelledEpoch,
    found: ReadonlyMap<string, Memory | undefined>,
    promise: string,
  ): void {
    for (const member of members) {
      const memory = found.get(member);
      const truth = this.#cuts.get(round)?.get(member)?.memory;
      const same = truth?.every((version, page) => memory?.[page] === version);
      if (same === true) continue;
      const what = memory === undefined ? 'has nothing' : 'has another memory';
      this.broken(`${promise}: epoch ${epoch} ${what} of ${member}`);
    }
  }
}
