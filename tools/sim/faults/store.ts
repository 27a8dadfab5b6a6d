/**
 * The shadow store and the durable tier, as far as the protocol depends on them.
 *
 *     memory   folders of rounds, with shadows: staged, then sealed; the catalogue names rounds
 *     disk     the same epochs again, as files: what was not synced is lost with the power
 *
 * A shadow is full, or a delta: pages that differ from a full one of an earlier round, and an index
 * that says which those are; or a link: pages that were written since another one, of any depth.
 */
import { type Memory, PAGES } from './guest.ts';

export interface ModelledShadow {
  readonly member: string;
  readonly pages: Memory;
  /** The round in which its VM was captured; of a folded one, that of what was folded. */
  readonly cut: number;
  /** The round whose shadow it is stored against; undefined if it is full. */
  readonly base: number | undefined;
  /** Pages that are the base's; empty if it is full. */
  readonly same: ReadonlySet<number>;
}

export interface ModelledEpoch {
  readonly epoch: number;
  readonly round: number;
  readonly members: readonly string[];
}

interface OnDisk {
  readonly epoch: ModelledEpoch;
  readonly shadows: ReadonlyMap<string, Memory>;
  synced: boolean;
}

export class ModelledStore {
  /** Shadows by round and member; undefined while staged. */
  readonly rounds = new Map<number, Map<string, ModelledShadow | undefined>>();
  readonly epochs = new Map<number, ModelledEpoch>();
  /** Epochs that the disk's directory names. */
  readonly disk = new Map<number, OnDisk>();
  /** The most memory that was in use, pages. */
  mostPages = 0;
  #highest = 0;

  get nextEpoch(): number {
    return Math.max(this.#highest, ...this.epochs.keys(), ...this.disk.keys()) + 1;
  }

  get pages(): number {
    let pages = 0;
    for (const shadows of this.rounds.values()) {
      for (const shadow of shadows.values()) {
        pages += shadow === undefined ? PAGES : PAGES - shadow.same.size;
      }
    }
    return pages;
  }

  stage(round: number, member: string): void {
    const shadows = this.rounds.get(round) ?? new Map();
    this.rounds.set(round, shadows.set(member, undefined));
    this.mostPages = Math.max(this.mostPages, this.pages);
  }

  /** Seals a shadow. @returns false if its folder has gone */
  seal(round: number, shadow: ModelledShadow): boolean {
    const shadows = this.rounds.get(round);
    if (shadows?.has(shadow.member) !== true) return false;
    shadows.set(shadow.member, shadow);
    return true;
  }

  discard(round: number, member: string): void {
    this.rounds.get(round)?.delete(member);
  }

  /** Returns the newest full shadow of a member in an epoch, which a delta may be taken against. */
  baseFor(member: string): { round: number; pages: Memory } | undefined {
    const newest = [...this.epochs.values()].sort((a, b) => b.epoch - a.epoch)[0];
    const shadow = newest && this.rounds.get(newest.round)?.get(member);
    if (newest === undefined || shadow === undefined) return undefined;
    let { round } = newest;
    let full: ModelledShadow | undefined = shadow;
    while (full?.base !== undefined) {
      round = full.base;
      full = this.rounds.get(round)?.get(member);
    }
    return full && { round, pages: full.pages };
  }

  /** Returns a member's shadow in the newest epoch, which a link may be stored against. */
  parentFor(member: string): { round: number; cut: number } | undefined {
    const newest = [...this.epochs.values()].sort((a, b) => b.epoch - a.epoch)[0];
    const shadow = newest && this.rounds.get(newest.round)?.get(member);
    return newest && shadow && { round: newest.round, cut: shadow.cut };
  }

  /** Lists the rounds of a chain: the shadow's own, and those it is stored against. */
  chain(round: number, member: string): number[] {
    const rounds: number[] = [];
    for (let at: number | undefined = round; at !== undefined; ) {
      rounds.push(at);
      at = this.rounds.get(at)?.get(member)?.base;
    }
    return rounds;
  }

  retire(epoch: number): void {
    this.#highest = Math.max(this.#highest, epoch);
    this.epochs.delete(epoch);
  }

  /** Removes what no epoch needs. */
  collect(keep: ReadonlySet<number>): void {
    const needed = new Set(keep);
    for (const { round, members } of this.epochs.values()) {
      needed.add(round);
      for (const one of members.flatMap((member) => this.chain(round, member))) needed.add(one);
    }
    for (const round of [...this.rounds.keys()]) if (!needed.has(round)) this.rounds.delete(round);
  }

  /** Returns the memory a restore would bring, by member; undefined where some is missing. */
  restore({ round, members }: ModelledEpoch): Map<string, Memory | undefined> {
    return new Map(members.map((member) => [member, this.#read(round, member)]));
  }

  #read(round: number, member: string): Memory | undefined {
    const shadow = this.rounds.get(round)?.get(member);
    if (shadow?.base === undefined) return shadow?.pages;
    const base = this.#read(shadow.base, member);
    if (base === undefined) return undefined;
    return shadow.pages.map((version, page) =>
      shadow.same.has(page) ? (base[page] ?? version) : version,
    );
  }

  /** Drops all memory, and of the disk what had not been synced. */
  losePower(): void {
    this.#highest = this.nextEpoch - 1;
    this.rounds.clear();
    this.epochs.clear();
    for (const [epoch, found] of this.disk) {
      if (!found.synced) this.disk.set(epoch, { ...found, shadows: new Map() });
    }
  }
}
