/**
 * A cluster in which things go wrong: guests, their proxies, the daemon, the store, and a network
 * between them, all in virtual time, all from one seed.
 *
 *     operator ──▶ daemon: round.ts ──links──▶ proxy: session.ts ──▶ modelled QEMU and guest
 *                    │  ▲                         │                        │
 *                    ▼  └─────────── links ───────┘                    journal
 *                  store
 *
 * The operator asks for checkpoints, starts a daemon that died, and restores guests that died.
 * After the last planned fault, one more checkpoint must commit. Promises are checked
 * at the instant that could break them (promises.ts lists them).
 */
import type { MemberCommand, MemberMilestone } from '../../../proxy/coordinator/rounds/round.ts';
import { Events } from '../events.ts';
import { Random } from '../random.ts';
import { Coverage } from './coverage.ts';
import { ModelledDaemon } from './daemon.ts';
import { Guest, type Memory } from './guest.ts';
import { drawPlan, type Fault, type Plan } from './plan.ts';
import { Promises } from './promises.ts';
import { ModelledProxy } from './proxy.ts';
import { type ModelledEpoch, ModelledStore } from './store.ts';
import { type Broken, BUDGET_SHADOWS, type Seat } from './terms.ts';

const ROUNDS = 3;
const FAULTS_UNTIL_MS = 700;
const OPERATOR_MS = 20;
const DAEMON_RESTART_MS = 100;
/** A daemon that is busy for longer is started again by its operator. */
const PATIENCE_MS = 12_000;
const END_MS = 120_000;

/** Faults that keep one guest stopped, whatever the others do. */
const OF_ITS_OWN: ReadonlySet<Fault['kind']> = new Set([
  'kill-proxy',
  'freeze-proxy',
  'refuse-cont',
]);

const LATENCY_MS = 0.2;
const LOST = 0.02;
const DOUBLED = 0.02;
const OVERTAKEN_MS = 5;

export interface Outcome {
  readonly seed: number;
  readonly plan: Plan;
  readonly rounds: number;
  readonly committed: number;
  /** Promises that were broken, in words; empty if all is well. */
  readonly violations: readonly string[];
  /** The longest that a guest with a sound proxy and QEMU was stopped, milliseconds. */
  readonly longestStandMs: number;
  /** Events, one a line, if they were asked for. */
  readonly story: readonly string[];
}

export interface WorldOptions {
  readonly seed: number;
  readonly coverage?: Coverage;
  readonly broken?: Broken | undefined;
  /** Instead of what the seed would have go wrong. */
  readonly plan?: Plan;
  readonly tell?: boolean;
}

export function run(options: WorldOptions): Outcome {
  return new World(options).run();
}

export class World {
  readonly events = new Events();
  readonly random: Random;
  readonly plan: Plan;
  readonly coverage: Coverage;
  readonly broken: Broken | undefined;
  readonly store = new ModelledStore();
  readonly seats: readonly Seat[];
  readonly #seed: number;
  readonly #daemon: ModelledDaemon;
  readonly #proxies = new Map<Seat, ModelledProxy[]>();
  readonly #links = new Map<string, number>();
  readonly #promises: Promises;
  readonly #story: string[] = [];
  readonly #tells: boolean;
  #rounds = 0;
  #lastRound = 0;
  #committed = 0;
  #publishFails = false;
  #awaiting: Fault[] = [];
  #busySinceMs = 0;
  #calm = false;
  /** A checkpoint has committed since all that goes wrong had. */
  #recovered = false;
  #over = false;

  constructor({ seed, coverage = new Coverage(), broken, plan, tell = false }: WorldOptions) {
    this.#seed = seed;
    const draw = new Random(seed);
    const drawn = drawPlan(draw.fork(), FAULTS_UNTIL_MS);
    this.random = draw.fork();
    this.plan = plan ?? drawn;
    this.coverage = coverage;
    this.broken = broken;
    this.#tells = tell;
    this.seats = Array.from({ length: this.plan.members }, (_, index) => ({
      name: `n${index}`,
      guest: new Guest(`n${index}`, draw.fork()),
      capture: this.plan.capture[index] ?? 'precopy',
      journal: undefined,
      ledger: undefined,
      stopsSlowerMs: 0,
      refusesAdmission: false,
      storeIsFull: false,
      cutsStream: false,
    }));
    this.#promises = new Promises(this.store, () => this.events.nowMs);
    this.#daemon = new ModelledDaemon(this);
  }

  run(): Outcome {
    this.#daemon.start();
    for (const fault of this.plan.faults) this.events.at(fault.atMs, () => this.#await(fault));
    this.#operate();
    const ended = this.events.run(() => this.#over, END_MS);
    if (!ended) this.#promises.broken('after all that went wrong, no checkpoint commits any more');
    this.#promises.atEnd(this.seats, BUDGET_SHADOWS);
    return {
      seed: this.#seed,
      plan: this.plan,
      rounds: this.#rounds,
      committed: this.#committed,
      violations: this.#promises.violations,
      longestStandMs: this.#promises.longestMs,
      story: this.#story,
    };
  }

  // What the daemon asks of the world

  newRound(copyOf?: number): number {
    this.#lastRound += 1;
    if (copyOf === undefined) this.tell(`round ${this.#lastRound}`);
    else this.#promises.copyRound(copyOf, this.#lastRound);
    return this.#lastRound;
  }

  newProxy(seat: Seat): ModelledProxy {
    const proxy = new ModelledProxy(this, seat);
    const others = this.proxiesOf(seat).filter(({ process }) => process.isAlive);
    this.#proxies.set(seat, [...others, proxy]);
    return proxy;
  }

  proxiesOf(seat: Seat): readonly ModelledProxy[] {
    return this.#proxies.get(seat) ?? [];
  }

  killProxy(seat: Seat): void {
    const proxy = this.#daemon.proxyOf(seat);
    if (proxy?.process.isAlive !== true) return;
    this.tell(`${seat.name}: proxy dies`);
    proxy.process.die();
    if (this.#daemon.process.isAlive) this.#daemon.onProxyGone(seat);
  }

  command(seat: Seat, proxy: ModelledProxy, round: number, command: MemberCommand): void {
    this.tell(`${seat.name} ◀ ${command}`);
    this.#send(`to ${seat.name}`, () => proxy.command(round, command));
  }

  report(proxy: ModelledProxy, seat: Seat, round: number, report: MemberMilestone): void {
    this.tell(`${seat.name} ▶ ${report}`);
    this.#send(`from ${seat.name}`, () => {
      const isOurs = this.#daemon.proxyOf(seat) === proxy;
      if (isOurs && this.#daemon.process.isAlive) this.#daemon.onReport(seat, round, report);
    });
  }

  checkPublished(epoch: ModelledEpoch): void {
    this.tell(`epoch ${epoch.epoch} is published`);
    this.#promises.published(epoch);
  }

  takePublishFault(): boolean {
    const fails = this.#publishFails;
    this.#publishFails = false;
    return fails;
  }

  onRetired(epoch: number): void {
    this.#promises.retired(epoch);
  }

  onDone(epoch: number | undefined): void {
    this.tell(epoch === undefined ? 'round aborted' : `epoch ${epoch} is committed`);
    if (epoch === undefined) return;
    this.#committed += 1;
    this.#promises.committed(epoch);
    this.#recovered ||= this.#calm;
  }

  // What proxies ask of the world

  /** Returns true if the daemon sends the proxy signs of life, twice a second. */
  isSpokenTo(proxy: ModelledProxy, seat: Seat, round: number): boolean {
    const { isAlive, isFrozen } = this.#daemon.process;
    return isAlive && !isFrozen && this.#daemon.hasInRound(proxy, seat, round);
  }

  noteCut(round: number, member: string, memory: Memory): void {
    this.#promises.cut(round, member, memory);
  }

  /** Has the faults happen that wait for a VM to be stopped. */
  onStopped(seat: Seat): void {
    const due = this.#awaiting.filter(({ member }) => this.seats[member] === seat);
    this.#awaiting = this.#awaiting.filter((fault) => !due.includes(fault));
    for (const fault of due) this.events.after(fault.afterStopMs ?? 0, () => this.#strike(fault));
  }

  /** Sends `cont`. @returns true if the guest runs now */
  cont(seat: Seat): boolean {
    const stoodMs = seat.guest.stoodForMs(this.events.nowMs);
    if (!seat.guest.cont()) return false;
    this.tell(`${seat.name}: runs`);
    this.#promises.resumed(seat.name, stoodMs);
    return true;
  }

  tell(line: string): void {
    if (this.#tells) this.#story.push(`${this.events.nowMs.toFixed(1).padStart(9)} ${line}`);
  }

  // What goes wrong

  #await(fault: Fault): void {
    if (fault.afterStopMs === undefined) this.#strike(fault);
    else this.#awaiting.push(fault);
  }

  #strike({ kind, member, ms }: Fault): void {
    const seat = this.seats[member];
    if (seat === undefined) return;
    this.tell(`FAULT ${kind} ${seat.name} ${ms.toFixed(0)} ms`);
    if (OF_ITS_OWN.has(kind)) this.#promises.struck(seat.name, ms);
    const proxy = this.#daemon.proxyOf(seat);
    switch (kind) {
      case 'kill-proxy':
        this.killProxy(seat);
        break;
      case 'freeze-proxy':
        proxy?.process.freeze(ms);
        this.#daemon.onFrozen(seat);
        break;
      case 'kill-daemon':
        this.#killDaemon();
        break;
      case 'freeze-daemon':
        this.#daemon.process.freeze(ms);
        break;
      case 'kill-vm':
        this.#killGuest(seat);
        break;
      case 'slow-stop':
        seat.stopsSlowerMs = 2 * ms;
        break;
      case 'refuse-cont':
        seat.guest.refusals = Math.ceil(ms / 50);
        break;
      case 'switch-over':
        this.#switchOver(seat, proxy);
        break;
      case 'cut-stream':
        seat.cutsStream = true;
        break;
      case 'foreign-cont':
        if (seat.guest.runs || seat.guest.isDead) break;
        if (this.cont(seat)) proxy?.happen({ type: 'vm-resumed' });
        break;
      case 'refuse-admission':
        seat.refusesAdmission = true;
        break;
      case 'store-full':
        seat.storeIsFull = true;
        break;
      case 'publish-fails':
        this.#publishFails = true;
        break;
      case 'abort':
        this.#daemon.abort();
        break;
      case 'power-cut':
        this.#cutPower();
    }
  }

  #switchOver({ guest }: Seat, proxy: ModelledProxy | undefined): void {
    if (proxy?.converges !== true) return;
    if (guest.stop(this.events.nowMs)) proxy.happen({ type: 'vm-stopped' });
  }

  #killDaemon(): void {
    if (!this.#daemon.process.isAlive) return;
    this.#daemon.die();
    this.events.after(DAEMON_RESTART_MS, () => this.#startDaemon());
  }

  #startDaemon(): void {
    if (this.#daemon.process.isAlive) return;
    this.tell('daemon starts');
    this.#busySinceMs = this.events.nowMs;
    this.#daemon.start();
  }

  #killGuest(seat: Seat): void {
    this.#promises.resumed(seat.name, seat.guest.stoodForMs(this.events.nowMs));
    seat.guest.kill();
    const failure = { code: 'E_QMP_CLOSED', message: 'killed' };
    for (const proxy of this.proxiesOf(seat)) proxy.happen({ type: 'failed', failure });
  }

  #cutPower(): void {
    for (const seat of this.seats) {
      this.#promises.resumed(seat.name, seat.guest.stoodForMs(this.events.nowMs));
      seat.guest.kill();
      seat.journal = undefined;
      for (const { process } of this.proxiesOf(seat)) process.die();
    }
    this.#daemon.process.die();
    this.store.losePower();
    this.#promises.powerLost();
    this.events.after(DAEMON_RESTART_MS, () => this.#startDaemon());
  }

  // The operator

  #operate(): void {
    this.events.after(OPERATOR_MS, () => {
      const { nowMs } = this.events;
      const afterFaults = nowMs > FAULTS_UNTIL_MS && this.#rounds >= ROUNDS;
      if (this.#daemon.isIdle || !this.#daemon.process.isAlive) this.#busySinceMs = nowMs;
      if (this.#recovered) this.#over = this.#daemon.isIdle && !this.#daemon.isFolding;
      else if (this.#daemon.isIdle) this.#next(afterFaults);
      else if (nowMs - this.#busySinceMs > PATIENCE_MS) this.#killDaemon();
      if (!this.#over) this.#operate();
    });
  }

  #next(afterFaults: boolean): void {
    if (this.seats.some(({ guest }) => guest.isDead)) this.#restore();
    if (this.#rounds >= ROUNDS && !afterFaults) return;
    if (afterFaults && !this.#calm) {
      this.#calm = true;
      for (const seat of this.seats) {
        seat.cutsStream = false;
        seat.refusesAdmission = false;
        seat.storeIsFull = false;
        seat.stopsSlowerMs = 0;
      }
      this.#publishFails = false;
      this.#awaiting = [];
    }
    if (this.#daemon.checkpoint()) this.#rounds += 1;
  }

  /** Kills all guests, and restores them from the newest epoch. */
  #restore(): void {
    const newest = Math.max(0, ...this.store.epochs.keys());
    const epoch = this.store.epochs.get(newest);
    const memories = epoch && this.store.restore(epoch);
    for (const seat of this.seats) {
      if (!seat.guest.isDead) this.#killGuest(seat);
      seat.journal = undefined;
      seat.guest.boot(memories?.get(seat.name));
    }
    this.tell(`restored ${epoch === undefined ? 'from nothing' : `epoch ${newest}`}`);
  }

  /** Sends in order, one link a direction; unless the network is one that keeps no order at all. */
  #send(link: string, arrive: () => void): void {
    const { random, events } = this;
    const latencyMs = LATENCY_MS + random.exponential(LATENCY_MS);
    if (!this.plan.unreliable || this.#calm) {
      const atMs = Math.max(this.#links.get(link) ?? 0, events.nowMs + latencyMs);
      this.#links.set(link, atMs);
      events.at(atMs, arrive);
      return;
    }
    const chance = random.next();
    if (chance < LOST) return;
    const late = () => latencyMs + (random.next() < LOST ? random.uniform(0, OVERTAKEN_MS) : 0);
    events.after(late(), arrive);
    if (chance < LOST + DOUBLED) events.after(late(), arrive);
  }
}
