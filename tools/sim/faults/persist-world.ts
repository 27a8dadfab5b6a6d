/**
 * Epochs on their way to disk while things go wrong: a daemon, its processes, the memory and the
 * disk, in virtual time, all from one seed.
 *
 *     rounds, operator ──▶ daemon: persisting.ts ──▶ job, keeper of the list ──▶ disk
 *                             │
 *                          memory: epochs, pins
 *
 * Rounds commit epochs, an operator pins and removes some, and retention retires old ones from
 * memory. When all that was planned to go wrong has, everything that is wanted must get to disk.
 */
import { epochsToRetire } from '../../../policies/index.ts';
import type { Memory } from '../../../proxy/coordinator/durable/persisting-state.ts';
import type { Failure } from '../../../proxy/failure/failure.ts';
import type { EpochManifest } from '../../../shadow/index.ts';
import { Events } from '../events.ts';
import { Random } from '../random.ts';
import { COMMIT_LIMIT_MS, PersistDaemon, REMOVE_LIMIT_MS } from './persist-daemon.ts';
import { ModelledDisk, nameOf, type Source } from './persist-disk.ts';
import {
  drawPersistPlan,
  type PersistBroken,
  type PersistFault,
  type PersistFaultKind,
  type PersistPlan,
} from './persist-plan.ts';
import { PersistPromises } from './persist-promises.ts';

const FAULTS_UNTIL_MS = 40_000;
/** Longer than any fault lasts, and the longest pause before another attempt. */
const END_MS = FAULTS_UNTIL_MS + 60_000 + 700_000;
const ROUND_EVERY_MS = 3_000;
const OPERATOR_EVERY_MS = 5_000;
const RESTART_MS = 500;
const PUBLISH_MS = 1;
/** Limit of a round that needs no disk, however slow the disk is. */
const ROUND_LIMIT_MS = 50;

export interface PersistOutcome {
  readonly seed: number;
  readonly plan: PersistPlan;
  readonly rounds: number;
  readonly committed: number;
  readonly violations: readonly string[];
  /** States of the machine that were entered. */
  readonly states: ReadonlySet<number>;
  readonly story: readonly string[];
}

export interface PersistWorldOptions {
  readonly seed: number;
  readonly broken?: PersistBroken | undefined;
  /** Instead of what the seed would have go wrong. */
  readonly plan?: PersistPlan;
  readonly tell?: boolean;
}

interface InMemory {
  readonly manifest: EpochManifest;
  readonly content: number;
  damaged: boolean;
}

export function runPersist(options: PersistWorldOptions): PersistOutcome {
  return new PersistWorld(options).run();
}

export class PersistWorld {
  readonly events = new Events();
  readonly random: Random;
  readonly plan: PersistPlan;
  readonly broken: PersistBroken | undefined;
  readonly disk: ModelledDisk;
  readonly promises: PersistPromises;
  readonly #seed: number;
  readonly #daemon: PersistDaemon;
  readonly #catalogue = new Map<number, InMemory>();
  readonly #pins = new Set<number>();
  /** The last that an operator has asked for, by epoch: pinned, or not. */
  readonly #lastPins = new Map<number, boolean>();
  /** The epoch of a round that is not committed yet. */
  #staged: InMemory | undefined;
  /** Rounds and removals exclude one another. */
  #isBusy = false;
  #highestInMemory = 0;
  #lastContent = 0;
  #rounds = 0;
  #committed = 0;
  #publishFails = false;
  #awaiting: PersistFault[] = [];
  readonly #states = new Set<number>();
  readonly #story: string[] = [];
  readonly #tells: boolean;

  constructor({ seed, broken, plan, tell = false }: PersistWorldOptions) {
    this.#seed = seed;
    const draw = new Random(seed);
    const drawn = drawPersistPlan(draw.fork(), FAULTS_UNTIL_MS);
    this.random = draw.fork();
    this.plan = plan ?? drawn;
    this.broken = broken;
    this.#tells = tell;
    this.disk = new ModelledDisk(this.events, draw.fork());
    this.promises = new PersistPromises(this.disk, () => this.events.nowMs);
    this.#daemon = new PersistDaemon(this);
  }

  run(): PersistOutcome {
    this.#daemon.start();
    for (const fault of this.plan.faults) this.events.at(fault.atMs, () => this.#await(fault));
    this.events.at(FAULTS_UNTIL_MS, () => {
      this.#awaiting = []; // what is promised for the end is promised for when no fault strikes
    });
    this.#every(ROUND_EVERY_MS, () => this.#round());
    this.#every(OPERATOR_EVERY_MS, () => this.#operate());
    this.events.run(() => false, END_MS);
    this.promises.atEnd(this.#wanted());
    return {
      seed: this.#seed,
      plan: this.plan,
      rounds: this.#rounds,
      committed: this.#committed,
      violations: this.promises.violations,
      states: this.#states,
      story: this.#story,
    };
  }

  tell(line: string): void {
    if (this.#tells) this.#story.push(`${this.events.nowMs.toFixed(1).padStart(9)} ${line}`);
  }

  // What the daemon asks of the world

  memory(): Memory {
    const epochs = [...this.#catalogue.values()].map(({ manifest }) => manifest);
    return { epochs: epochs.sort((a, b) => a.epoch - b.epoch), pinned: [...this.#pins] };
  }

  sourceOf(epoch: EpochManifest): Source {
    const find = (): InMemory | undefined => {
      const all = [...this.#catalogue.values(), ...(this.#staged ? [this.#staged] : [])];
      return all.find(({ manifest }) => nameOf(manifest) === nameOf(epoch));
    };
    const isReadable = () => {
      const found = find();
      return found?.damaged === false && found.manifest.round === epoch.round;
    };
    return { content: find()?.content ?? 0, isReadable };
  }

  onState(state: number): void {
    this.#states.add(state);
    const due = this.#awaiting.filter(({ inState }) => inState === state);
    this.#awaiting = this.#awaiting.filter((fault) => !due.includes(fault));
    for (const fault of due) this.#strike(fault);
  }

  onGivenUp({ code, message, where = '' }: Failure): void {
    const epoch = this.#catalogue.get(Number(/\d+/.exec(where)?.[0]));
    if (code !== 'E_EPOCH_CORRUPT' || epoch === undefined) return;
    this.promises.givenUp(`${epoch.manifest.epoch} (${message})`, !epoch.damaged);
  }

  // What is done all the time

  #every(meanMs: number, happening: () => void): void {
    this.events.after(this.random.exponential(meanMs), () => {
      if (this.events.nowMs > FAULTS_UNTIL_MS) return;
      happening();
      this.#every(meanMs, happening);
    });
  }

  #round(): void {
    if (this.#isBusy || !this.#daemon.isReady) return;
    const nextInMemory = this.#highestInMemory + 1;
    if (nextInMemory === 1 && this.#daemon.isSilent) return;
    const { beforeCommit } = this.plan;
    if (beforeCommit && this.#daemon.isSilent) return;
    const epoch = Math.max(nextInMemory, this.#daemon.machine.list.nextEpoch);
    const content = ++this.#lastContent;
    const manifest: EpochManifest = {
      format: 'umbra-epoch',
      version: 2,
      cluster: 'sim',
      epoch,
      round: `r${content}`,
      createdAt: `t${content}`,
      members: [],
    };
    this.#rounds += 1;
    this.#isBusy = true;
    this.tell(`round for epoch ${epoch}`);
    this.promises.cut(manifest, content);
    this.#staged = { manifest, content, damaged: false };
    const askedAtMs = this.events.nowMs;
    const publish = () =>
      this.#daemon.process.after(PUBLISH_MS, () => this.#publish(manifest, content, askedAtMs));
    if (!beforeCommit || this.broken === 'commit-unlisted') publish();
    if (!beforeCommit) return;
    const want = { kind: 'commit', epoch: manifest } as const;
    this.#daemon.turn(want, COMMIT_LIMIT_MS, 'E_PERSIST_SLOW', (failure) => {
      if (this.broken === 'commit-unlisted') return;
      if (failure === undefined) publish();
      else this.#aborted(manifest, failure.code);
    });
  }

  #publish(manifest: EpochManifest, content: number, askedAtMs: number): void {
    const { beforeCommit } = this.plan;
    if (this.#publishFails) {
      this.#publishFails = false;
      if (!beforeCommit || this.#daemon.isSilent) {
        this.#isBusy = false;
        return;
      }
      const want = { kind: 'remove', epoch: manifest.epoch } as const;
      this.#daemon.turn(want, REMOVE_LIMIT_MS, 'E_DURABLE_SILENT', (failure) => {
        if (failure === undefined) this.promises.removed(manifest);
        this.#aborted(manifest, 'E_STORE_IO');
      });
      return;
    }
    this.#staged = undefined;
    this.#highestInMemory = Math.max(this.#highestInMemory, manifest.epoch);
    this.#catalogue.set(manifest.epoch, { manifest, content, damaged: false });
    this.#committed += 1;
    this.tell(`epoch ${manifest.epoch} is committed`);
    this.promises.committed(manifest, beforeCommit);
    if (!beforeCommit) {
      this.promises.waited('a round', this.events.nowMs - askedAtMs, ROUND_LIMIT_MS);
    }
    this.#isBusy = false;
    this.#retireOld();
    this.#daemon.wake();
  }

  #aborted(manifest: EpochManifest, code: string): void {
    this.tell(`round aborted: ${code}`);
    this.promises.aborted(manifest);
    this.#staged = undefined;
    this.#isBusy = false;
    this.#daemon.wake();
  }

  #retireOld(): void {
    const { epoch: persisting } = this.#daemon.machine;
    const known = [...this.#catalogue.keys()].map((epoch) => ({
      epoch,
      committedAtMs: 0,
      pinned: this.#pins.has(epoch),
      held: persisting?.epoch === epoch && this.broken !== 'retire-unheld',
    }));
    const policy = { keep: this.plan.keep, keepForMs: undefined };
    for (const epoch of epochsToRetire(known, policy, this.events.nowMs)) {
      const manifest = this.#catalogue.get(epoch)?.manifest;
      if (manifest !== undefined) this.promises.retired(manifest, persisting?.epoch === epoch);
      this.#catalogue.delete(epoch);
    }
  }

  #operate(): void {
    if (!this.#daemon.isReady || this.#daemon.isSilent) return;
    const { list } = this.#daemon.machine;
    const [first] = list.epochs;
    if (first === undefined) return;
    const manifest = this.random.choice(first, ...list.epochs.slice(1));
    if (this.random.next() < 0.5) this.#pin(manifest, this.random.next() < 0.5);
    else if (!list.pinned.includes(manifest.epoch)) this.#remove(manifest);
  }

  #pin(manifest: EpochManifest, pinned: boolean): void {
    const { epoch } = manifest;
    if (pinned && this.#catalogue.has(epoch)) this.#pins.add(epoch);
    else this.#pins.delete(epoch);
    if (!pinned) this.promises.pinned(manifest, false);
    this.#lastPins.set(epoch, pinned);
    const want = { kind: 'pin', epoch, pinned } as const;
    this.#daemon.turn(want, REMOVE_LIMIT_MS, 'E_DURABLE_SILENT', (failure) => {
      // Unpinned meanwhile: the answer to the pin promises nothing any more.
      if (this.#lastPins.get(epoch) !== pinned) return;
      const named = this.disk.names.get(epoch)?.manifest;
      if (failure !== undefined || named === undefined) return;
      if (nameOf(named) === nameOf(manifest)) this.promises.pinned(manifest, pinned);
    });
  }

  /** Removes an epoch as epochs.ts does: from disk, from memory, and from disk once more. */
  #remove(manifest: EpochManifest): void {
    const { epoch } = manifest;
    if (this.#isBusy || this.#pins.has(epoch)) return;
    this.#isBusy = true;
    this.tell(`epoch ${epoch} is to be removed`);
    const removed = (failure: Failure | undefined) => {
      if (failure === undefined) this.promises.removed(manifest);
      this.#isBusy = false;
    };
    this.#removeFromDisk(epoch, (failure) => {
      if (failure !== undefined) return removed(failure);
      this.#catalogue.delete(epoch);
      this.#removeFromDisk(epoch, removed);
    });
  }

  #removeFromDisk(epoch: number, done: (failure: Failure | undefined) => void): void {
    const want = { kind: 'remove', epoch } as const;
    this.#daemon.turn(want, REMOVE_LIMIT_MS, 'E_DURABLE_SILENT', done);
  }

  // What goes wrong

  #await(fault: PersistFault): void {
    if (fault.inState === undefined) this.#strike(fault);
    else this.#awaiting.push(fault);
  }

  #strike({ kind, ms }: PersistFault): void {
    this.tell(`FAULT ${kind} ${ms.toFixed(0)} ms`);
    const strikes: Record<PersistFaultKind, () => void> = {
      'slow-disk': () => this.disk.slow(ms),
      'hung-disk': () => this.disk.hang(ms),
      'full-disk': () => this.disk.fill(ms),
      'kill-job': () => this.#daemon.killJob(),
      'kill-list': () => this.#daemon.killList(),
      'kill-daemon': () => this.#killDaemon(),
      'power-cut': () => this.#cutPower(),
      'publish-fails': () => {
        this.#publishFails = true;
      },
      'damage-memory': () => this.#damage(),
      fold: () => this.#fold(),
    };
    strikes[kind]();
  }

  #damage(): void {
    const newest = this.#catalogue.get(Math.max(...this.#catalogue.keys()));
    if (newest !== undefined) newest.damaged = true;
  }

  /** Gives the newest epoch other shadows. */
  #fold(): void {
    const newest = this.#catalogue.get(Math.max(...this.#catalogue.keys()));
    if (newest === undefined) return;
    const manifest = { ...newest.manifest, round: `${newest.manifest.round}f` };
    this.#catalogue.set(manifest.epoch, { ...newest, manifest });
  }

  #killDaemon(): void {
    if (!this.#daemon.process.isAlive) return;
    this.#daemon.die();
    this.#afterDeath();
  }

  #cutPower(): void {
    this.#daemon.vanish();
    this.#catalogue.clear();
    this.#pins.clear();
    this.#highestInMemory = 0;
    this.disk.losePower();
    this.promises.look();
    this.#afterDeath();
  }

  #afterDeath(): void {
    this.#isBusy = false;
    this.#staged = undefined;
    this.promises.daemonDied();
    this.events.after(RESTART_MS, () => {
      if (this.#daemon.process.isAlive) return;
      this.tell('daemon starts');
      this.#daemon.start();
    });
  }

  /** Returns what should be on disk in the end: the newest that are kept, and can be read. */
  #wanted(): EpochManifest[] {
    const { keep } = this.plan;
    const onDisk = [...this.disk.names.keys()].sort((a, b) => a - b);
    const oldest = onDisk.at(-keep) ?? 0;
    const conflicts = (epoch: EpochManifest) => {
      const there = this.disk.names.get(epoch.epoch)?.manifest;
      return there !== undefined && nameOf(there) !== nameOf(epoch);
    };
    return [...this.#catalogue.values()]
      .sort((a, b) => a.manifest.epoch - b.manifest.epoch)
      .slice(-keep)
      .filter(({ damaged }) => !damaged)
      .map(({ manifest }) => manifest)
      .filter((epoch) => epoch.epoch > oldest && !conflicts(epoch));
  }
}
