/**
 * A cluster's epochs: listed with what they cost, read again, pinned, held, removed, retired.
 *
 * Pins and retirement take turns: an epoch whose pin was acknowledged is never retired by a
 * decision that was begun before.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { epochsToRetire } from '../../../policies/index.ts';
import {
  type Catalogue,
  type EpochManifest,
  measureEpochs,
  pinEpoch,
  pinnedEpochs,
  ShadowError,
  unpinEpoch,
  type VerifyMode,
} from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { Agent, DurableList } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import type { EpochDetail, EpochInfo } from '../../protocol/epoch.ts';
import type { Persister } from '../durable/persister.ts';

/** Epochs in memory, or on disk. */
type EpochList = Pick<DurableList, 'epochs' | 'damaged'>;
type DiskList = Persister['listing'];
type Numbered = Record<keyof EpochList, readonly { readonly epoch: number }[]>;
const NONE: DiskList = { epochs: [], damaged: [], pinned: [] };

export class Epochs {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #agent: Agent;
  readonly #persister: Persister | undefined;
  readonly #log: Logger;
  readonly #turn = pLimit(1);
  /** Number of holds, by epoch. */
  readonly #holds = new Map<number, number>();
  /** Calls that wait for a hold to end. */
  readonly #waiting: (() => void)[] = [];

  /** @param persister undefined: there are none on disk */
  constructor(
    config: ClusterConfig,
    catalogue: Catalogue,
    agent: Agent,
    persister: Persister | undefined,
    log: Logger,
  ) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#agent = agent;
    this.#persister = persister;
    this.#log = log;
  }

  /** Lists epochs in memory, on disk, or both, by number. */
  async list(): Promise<EpochInfo[]> {
    const listed = await this.#catalogue.list();
    const damaged = listed.damaged.map(({ epoch, error }) => {
      return { epoch, failure: toFailure(error, {}) };
    });
    const inMemory: EpochList = { epochs: listed.epochs, damaged };
    const onDisk = this.#onDisk;
    const pins = await this.#pins();
    const known = new Set(numbersOf(inMemory));
    const others: EpochList = {
      epochs: onDisk.epochs.filter(({ epoch }) => !known.has(epoch)),
      damaged: onDisk.damaged.filter(({ epoch }) => !known.has(epoch)),
    };
    const all = [...this.#describe(inMemory, pins, true), ...this.#describe(others, pins, false)];
    return all.sort((a, b) => a.epoch - b.epoch);
  }

  #describe(
    { epochs, damaged }: EpochList,
    pins: ReadonlySet<number>,
    inMemory: boolean,
  ): EpochInfo[] {
    const onDisk = new Set(numbersOf(this.#onDisk));
    const { persisting } = this.#persister?.status ?? {};
    const location = (epoch: number) => ({
      pinned: pins.has(epoch),
      inMemory,
      onDisk: onDisk.has(epoch),
      persisting: persisting?.epoch === epoch ? persisting.share : undefined,
    });
    const whole = epochs.map(({ epoch, createdAt, members }) => {
      return { epoch, createdAt, members: members.length, ...location(epoch), failure: undefined };
    });
    const broken = damaged.map(({ epoch, failure }) => {
      return { epoch, createdAt: undefined, members: 0, ...location(epoch), failure };
    });
    return [...whole, ...broken];
  }

  /** Returns every epoch's manifest; undefined if one is damaged: what it names is not known. */
  async manifests(): Promise<EpochManifest[] | undefined> {
    const inMemory = await this.#catalogue.list();
    const onDisk = this.#onDisk;
    if (inMemory.damaged.length + onDisk.damaged.length > 0) return undefined;
    return [...inMemory.epochs, ...onDisk.epochs];
  }

  async details(nowMs: number): Promise<EpochDetail[]> {
    const { epochs } = await this.#catalogue.list();
    const spaces = await measureEpochs(this.#config.shadowsDirectory, epochs);
    return (await this.list()).map((info) => {
      const { createdAt, epoch } = info;
      const ageMs = createdAt === undefined ? undefined : nowMs - Date.parse(createdAt);
      return { ...info, ageMs, space: spaces.get(epoch) };
    });
  }

  /**
   * Pins or unpins an epoch, wherever it is. An epoch that gets to disk later keeps its pin there.
   * @throws UmbraError E_EPOCH_UNKNOWN, what is wrong with its manifest, or why the disk fails
   */
  async pin(epoch: number, pinned: boolean): Promise<void> {
    const isOnDisk = () => numbersOf(this.#onDisk).includes(epoch);
    await this.#turn(async () => {
      if (!isOnDisk()) await this.#catalogue.read(epoch);
      const { directory } = this.#catalogue;
      if (await this.isInMemory(epoch)) await (pinned ? pinEpoch : unpinEpoch)(directory, epoch);
      else if (!pinned) await unpinEpoch(directory, epoch);
    });
    // Outside the turn: no other caller waits for the disk. It may have got there with its old pin.
    if (isOnDisk()) await this.#persister?.pin(epoch, pinned);
  }

  /** Returns all pinned epochs, in memory or on disk. */
  async #pins(): Promise<ReadonlySet<number>> {
    return new Set([...(await pinnedEpochs(this.#catalogue.directory)), ...this.#onDisk.pinned]);
  }

  get #onDisk(): DiskList {
    return this.#persister?.listing ?? NONE;
  }

  /**
   * Keeps an epoch's files from being removed while they are read.
   * @param choose names the epoch; no other call removes one meanwhile
   * @returns it, and what ends the hold; idempotent
   */
  hold(choose: () => Promise<EpochManifest>): Promise<{ held: EpochManifest; release(): void }> {
    return this.#turn(async () => {
      const held = await choose();
      const { epoch } = held;
      this.#holds.set(epoch, (this.#holds.get(epoch) ?? 0) + 1);
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        const others = (this.#holds.get(epoch) ?? 1) - 1;
        if (others > 0) this.#holds.set(epoch, others);
        else this.#holds.delete(epoch);
        for (const wake of this.#waiting.splice(0)) wake();
      };
      return { held, release };
    });
  }

  /**
   * Removes an epoch, wherever it is.
   * @throws UmbraError E_EPOCH_UNKNOWN, E_EPOCH_PINNED, E_EPOCH_HELD
   */
  remove(epoch: number): Promise<void> {
    return this.#turn(async () => {
      const inMemory = await this.isInMemory(epoch);
      const isOnDisk = () => numbersOf(this.#onDisk).includes(epoch);
      if (!inMemory && !isOnDisk()) await this.#catalogue.read(epoch); // says which there are
      if ((await this.#pins()).has(epoch)) {
        const hint = `Unpin it first: umbra pin ${epoch} --off`;
        throw new UmbraError({ code: 'E_EPOCH_PINNED', message: `epoch ${epoch} is pinned`, hint });
      }
      this.#requireUnheld(epoch);
      const isGettingThere = () => isOnDisk() || this.#persister?.isPersisting(epoch) === true;
      // From disk first: what is being brought there is read from memory.
      if (isGettingThere()) await this.#persister?.remove(epoch);
      if (!inMemory) return;
      await this.#catalogue.retire(epoch);
      // The persister may have chosen it once more before.
      if (isGettingThere()) await this.#persister?.remove(epoch);
      await this.#agent.collect('free');
    });
  }

  /** @throws UmbraError E_EPOCH_HELD */
  #requireUnheld(epoch: number): void {
    if (!this.#holds.has(epoch)) return;
    const message = `a clone is being made of epoch ${epoch}`;
    throw new UmbraError({ code: 'E_EPOCH_HELD', message });
  }

  /**
   * Lists in memory an epoch that has come from disk. The epoch that memory had under its number
   * was damaged, or is not trusted.
   * @throws UmbraError E_EPOCH_HELD, and nothing has changed
   */
  takeFetched(manifest: EpochManifest): Promise<void> {
    const { epoch, round } = manifest;
    return this.#turn(async () => {
      const there = await this.#catalogue.read(epoch).catch((error: ShadowError) => error);
      if (!(there instanceof Error) && there.round === round) return;
      this.#requireUnheld(epoch);
      const unknown = there instanceof ShadowError && there.code === 'E_EPOCH_UNKNOWN';
      if (!unknown) await this.#catalogue.retire(epoch);
      await this.#catalogue.publish(manifest);
      // Retired or not, it is the one that was pinned.
      if (this.#onDisk.pinned.includes(epoch)) await pinEpoch(this.#catalogue.directory, epoch);
    });
  }

  /** Tells whether an epoch is in memory, whole or damaged. */
  async isInMemory(epoch: number): Promise<boolean> {
    return numbersOf(await this.#catalogue.list()).includes(epoch);
  }

  /**
   * Reads an epoch in memory again. Rounds do not wait for that: meanwhile it may be folded or
   * removed.
   * @throws UmbraError E_EPOCH_CORRUPT, ShadowError E_EPOCH_UNKNOWN
   */
  async verify(epoch: number, mode: VerifyMode): Promise<void> {
    let manifest = await this.#catalogue.read(epoch);
    for (;;) {
      try {
        return await this.#agent.verify(manifest, mode);
      } catch (error) {
        const now = await this.#catalogue.read(epoch); // removed meanwhile, it is not damaged
        if (now.round === manifest.round) throw error;
        manifest = now; // folded meanwhile: what was read is not what it is made of any more
      }
    }
  }

  /** Resolves when an epoch is held no more. */
  async unheld(epoch: number): Promise<void> {
    while (this.#holds.has(epoch)) await new Promise<void>((done) => this.#waiting.push(done));
  }

  /**
   * Lets an epoch be made of other shadows; what it was made of may go then.
   * @returns false, and nothing has changed, if it is held
   */
  replace(manifest: EpochManifest): Promise<boolean> {
    return this.#turn(async () => {
      if (this.#holds.has(manifest.epoch)) return false;
      await this.#catalogue.replace(manifest);
      return true;
    });
  }

  /**
   * Retires what the policy keeps no longer (policies/retention.ts). Its memory is not freed yet.
   * @returns how many
   */
  retireOld(nowMs: number): Promise<number> {
    return this.#turn(async () => {
      const { epochs } = await this.#catalogue.list();
      const pins = await this.#pins();
      const known = epochs.map(({ epoch, createdAt }) => ({
        epoch,
        committedAtMs: Date.parse(createdAt),
        pinned: pins.has(epoch),
        // What is being brought to disk is read: it goes after the next round, then.
        held: this.#holds.has(epoch) || this.#persister?.isPersisting(epoch) === true,
      }));
      const going = epochsToRetire(known, this.#config.epochs, nowMs);
      for (const epoch of going) {
        await this.#catalogue.retire(epoch);
        this.#log.info({ epoch }, 'epoch retired');
      }
      return going.length;
    });
  }
}

function numbersOf({ epochs, damaged }: Numbered): number[] {
  return [...epochs, ...damaged].map(({ epoch }) => epoch);
}
