/**
 * The daemon: the real round machine, and an agent that keeps a proxy for each member. When it
 * dies, all it knew is gone. Its successor continues with what is in the store and in the journals.
 */
import { admitRound, epochsToRetire } from '../../../policies/index.ts';
import {
  ABORTED,
  begin,
  COMMITTED,
  isOver,
  LIVE,
  type MemberCommand,
  type MemberMilestone,
  type Round,
  type RoundAction,
  type RoundEvent,
  step,
} from '../../../proxy/coordinator/rounds/round.ts';
import { PAGES } from './guest.ts';
import { ModelledProcess } from './process.ts';
import type { ModelledProxy } from './proxy.ts';
import type { ModelledEpoch, ModelledShadow } from './store.ts';
import { BUDGET_SHADOWS, KEEP, LIMIT_MS, type Seat, SILENCE_MS } from './terms.ts';
import type { World } from './world.ts';

const PROXY_START_MS = 30;
const PUBLISH_STEP_MS = 1;
const FOLD_MS = 15;
/** A delta that has this much of its own is written anew, in full. */
const FOLD_ABOVE = 0.6;

interface ProxyState {
  proxy: ModelledProxy | undefined;
  round: number | undefined;
  preparedWith: ModelledProxy | undefined;
}

export class ModelledDaemon {
  readonly process: ModelledProcess;
  readonly #world: World;
  readonly #places = new Map<Seat, ProxyState>();
  #round: Round | undefined;
  #id = 0;
  #epoch = 0;
  #folding: number | undefined;

  constructor(world: World) {
    this.#world = world;
    this.process = new ModelledProcess(world.events, world.random);
  }

  get isIdle(): boolean {
    return this.process.isAlive && !this.process.isFrozen && this.#round === undefined;
  }

  get isFolding(): boolean {
    return this.#folding !== undefined;
  }

  proxyOf(seat: Seat): ModelledProxy | undefined {
    return this.#places.get(seat)?.proxy;
  }

  start(): void {
    this.process.start();
    this.#places.clear();
    this.#round = undefined;
    this.#folding = undefined;
    this.#collect();
    for (const seat of this.#world.seats) {
      const location: ProxyState = { proxy: undefined, round: undefined, preparedWith: undefined };
      this.#places.set(seat, location);
      this.#startProxy(seat, location, () => {});
    }
  }

  die(): void {
    this.process.die();
    for (const { proxy } of this.#places.values()) proxy?.orphan(true);
  }

  hasInRound(proxy: ModelledProxy, seat: Seat, round: number): boolean {
    const location = this.#places.get(seat);
    return location?.proxy === proxy && location.round === round;
  }

  /** Kills a proxy that was frozen in a round, when it has been silent for too long. */
  onFrozen(seat: Seat): void {
    const location = this.#places.get(seat);
    const proxy = location?.proxy;
    this.process.after(SILENCE_MS, () => {
      const stillFrozen = proxy?.process.isFrozen === true && location?.round !== undefined;
      if (stillFrozen && this.#world.broken !== 'deadman-off') this.#world.killProxy(seat);
    });
  }

  onProxyGone(seat: Seat): void {
    const location = this.#places.get(seat);
    if (location === undefined) return;
    this.process.after(PROXY_START_MS, () => {
      this.#startProxy(seat, location, (proxy) => {
        const { round } = location;
        if (round === undefined || location.preparedWith === proxy) return;
        location.round = undefined;
        this.#onReport(seat, round, 'gone');
      });
    });
  }

  /** Begins a round, if none is under way. @returns true if one began */
  checkpoint(): boolean {
    const { store, seats } = this.#world;
    if (!this.isIdle || seats.some(({ guest }) => guest.isDead)) return false;
    const need = {
      committedBytes: store.pages,
      stagingBytes: seats.length * PAGES,
      inFlightBytes: 0,
    };
    if (!admitRound(need, BUDGET_SHADOWS * seats.length * PAGES).admit) return false;
    this.#id = this.#world.newRound();
    this.#epoch = store.nextEpoch;
    this.#apply(begin(seats.map(({ name }) => name)));
    const id = this.#id;
    this.process.after(LIMIT_MS, () => {
      if (id === this.#id) this.abort('E_ROUND_TIMEOUT');
    });
    return true;
  }

  abort(code = 'E_ROUND_ABORTED'): void {
    this.process.after(0, () => this.#handle({ type: 'abort', failure: { code, message: code } }));
  }

  onReport(seat: Seat, round: number, report: MemberMilestone): void {
    this.process.after(0, () => this.#onReport(seat, round, report));
  }

  #onReport(seat: Seat, round: number, report: MemberMilestone): void {
    const location = this.#places.get(seat);
    if (report !== 'gone' && location?.round !== round) return;
    if (report === 'aborted' && location !== undefined) location.round = undefined;
    if (round === this.#id) {
      this.#handle({ type: 'report', member: seat.name, report });
    }
  }

  #startProxy(seat: Seat, location: ProxyState, ready: (proxy: ModelledProxy) => void): void {
    const proxy = this.#world.newProxy(seat);
    location.proxy = proxy;
    proxy.repair(() => this.process.after(0, () => ready(proxy)));
  }

  #handle(event: RoundEvent): void {
    const round = this.#round;
    if (round === undefined) return;
    this.#world.coverage.round(round, event);
    this.#apply(step(round, event));
  }

  #apply({ round, actions }: { round: Round; actions: readonly RoundAction[] }): void {
    const wasLive = this.#round?.state === LIVE;
    this.#round = round;
    for (const action of actions) this.#enact(action);
    if (!wasLive && round.state === LIVE && this.#round === round) {
      const reason = 'enough';
      const id = this.#id;
      this.process.after(this.#world.random.uniform(10, 60), () => {
        if (id === this.#id) this.#handle({ type: 'end', reason });
      });
    }
  }

  #enact(action: RoundAction): void {
    if (action.type === 'command') this.#command(action.member, action.command);
    if (action.type === 'publish') this.#publish();
    if (action.type === 'done') this.#done();
  }

  #command(name: string, command: MemberCommand): void {
    const seat = this.#world.seats.find((one) => one.name === name);
    const location = seat && this.#places.get(seat);
    if (seat === undefined || location === undefined) return;
    if (command === 'prepare') {
      location.round = this.#id;
      location.preparedWith = location.proxy?.process.isAlive === true ? location.proxy : undefined;
    }
    const { proxy, round } = location;
    if (round === undefined) {
      if (command === 'abort') this.onReport(seat, this.#id, 'gone');
      return;
    }
    if (proxy?.process.isAlive === true) this.#world.command(seat, proxy, round, command);
    if (command === 'commit') location.round = undefined;
  }

  /** Publishes, to disk first if so asked. The daemon may die between any two steps. */
  #publish(): void {
    const { store, seats, broken } = this.#world;
    const epoch: ModelledEpoch = {
      epoch: this.#epoch,
      round: this.#id,
      members: seats.map(({ name }) => name),
    };
    const fail = () => {
      store.disk.delete(epoch.epoch);
      const failure = { code: 'E_STORE_IO', message: 'publish' };
      this.#handle({ type: 'publish-failed', failure });
    };
    const link = () => {
      if (this.#world.takePublishFault()) return fail();
      store.epochs.set(epoch.epoch, epoch);
      this.#world.checkPublished(epoch);
      this.process.after(PUBLISH_STEP_MS, () => this.#handle({ type: 'published' }));
    };
    if (!this.#world.plan.durable) {
      this.process.after(PUBLISH_STEP_MS, link);
      return;
    }
    const shadows = new Map(
      [...store.restore(epoch)].flatMap(([member, memory]) => (memory ? [[member, memory]] : [])),
    );
    this.process.after(PUBLISH_STEP_MS, () => {
      if (broken === 'manifest-first')
        store.disk.set(epoch.epoch, { epoch, shadows, synced: false });
      this.process.after(PUBLISH_STEP_MS, () => {
        store.disk.set(epoch.epoch, { epoch, shadows, synced: true });
        this.process.after(PUBLISH_STEP_MS, link);
      });
    });
  }

  #done(): void {
    const round = this.#round;
    if (round === undefined || !isOver(round)) return;
    this.#round = undefined;
    this.#world.onDone(round.state === COMMITTED ? this.#epoch : undefined);
    if (round.state === COMMITTED) {
      this.#retire();
      this.#foldIfLarge();
    }
    if (round.state === ABORTED) this.#world.store.disk.delete(this.#epoch);
    this.#collect();
  }

  #retire(): void {
    const { store } = this.#world;
    const known = [...store.epochs.keys()].map((epoch) => {
      return { epoch, committedAtMs: 0, pinned: false, held: false };
    });
    const policy = { keep: KEEP, keepForMs: undefined };
    for (const epoch of epochsToRetire(known, policy, this.#world.events.nowMs)) {
      this.#world.onRetired(epoch);
      store.retire(epoch);
      store.disk.delete(epoch);
    }
  }

  #collect(): void {
    const active = [...this.#places.values()].flatMap(({ round }) => round ?? []);
    if (this.#folding !== undefined) active.push(this.#folding);
    this.#world.store.collect(new Set(active));
  }

  /** Counts the pages that are kept for this shadow alone: its own, and those of retired links. */
  #aloneFor(shadow: ModelledShadow | undefined): number {
    if (shadow === undefined) return PAGES;
    const { store } = this.#world;
    const kept = new Set([...store.epochs.values()].map(({ round }) => round));
    const links = shadow.base === undefined ? [] : store.chain(shadow.base, shadow.member);
    const retired = links.slice(0, -1).filter((round) => !kept.has(round));
    return retired.reduce((sum, round) => {
      return sum + PAGES - (store.rounds.get(round)?.get(shadow.member)?.same.size ?? 0);
    }, PAGES - shadow.same.size);
  }

  #foldIfLarge(): void {
    const { store } = this.#world;
    const epoch = store.epochs.get(this.#epoch);
    const shadows = [...(store.rounds.get(this.#id)?.values() ?? [])];
    const own = shadows.reduce((sum, shadow) => sum + this.#aloneFor(shadow), 0);
    const isDelta = shadows.some((shadow) => shadow?.base !== undefined);
    const room = BUDGET_SHADOWS * this.#world.seats.length * PAGES - store.pages;
    const large = isDelta && own > FOLD_ABOVE * PAGES * shadows.length;
    if (epoch === undefined || this.#folding !== undefined || !large) return;
    if (room < shadows.length * PAGES) return;
    const round = this.#world.newRound(this.#id);
    this.#folding = round;
    for (const name of epoch.members) store.stage(round, name);
    this.process.after(FOLD_MS, () => {
      for (const [member, pages] of store.restore(epoch)) {
        if (pages !== undefined) {
          const cut = store.rounds.get(epoch.round)?.get(member)?.cut ?? epoch.round;
          store.seal(round, { member, cut, pages, base: undefined, same: new Set() });
        }
      }
      this.#nameFolded({ ...epoch, round });
    });
  }

  /**
   * Publishes a folded epoch when no round is under way: one may be stored against what it
   * replaces.
   */
  #nameFolded(folded: ModelledEpoch): void {
    if (!this.isIdle) {
      this.process.after(FOLD_MS, () => this.#nameFolded(folded));
      return;
    }
    const { store } = this.#world;
    // Retired meanwhile, there is nothing to name.
    if (store.epochs.has(folded.epoch)) store.epochs.set(folded.epoch, folded);
    this.#folding = undefined;
    this.#collect();
  }
}
