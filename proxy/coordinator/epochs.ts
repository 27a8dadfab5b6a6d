/**
 * A cluster's epochs: listed with what they cost, pinned, held, removed, retired.
 *
 * Pins and retirement take turns, so that an epoch whose pin was acknowledged is never retired by a look
 * that was begun before.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { epochsToRetire } from '../../policies/index.ts';
import {
  type Catalogue,
  type EpochManifest,
  type EpochSpace,
  measureEpochs,
  pinEpoch,
  pinnedEpochs,
  unpinEpoch,
} from '../../shadow/index.ts';
import type { Agent } from '../agent/contract.ts';
import type { ClusterConfig } from '../config.ts';
import { type Failure, toFailure, UmbraError } from '../failure.ts';

export interface EpochInfo {
  readonly epoch: number;
  readonly createdAt: string | undefined;
  readonly members: number;
  readonly pinned: boolean;
  /** Why it cannot be restored, if it cannot. */
  readonly failure: Failure | undefined;
}

/** What is known of an epoch when its files are looked at, too. */
export interface EpochDetail extends EpochInfo {
  readonly ageMs: number | undefined;
  /** Undefined for an epoch whose manifest cannot be read. */
  readonly space: EpochSpace | undefined;
}

export class Epochs {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #agent: Agent;
  readonly #log: Logger;
  readonly #turn = pLimit(1);
  /** How many read it now, by epoch. */
  readonly #holds = new Map<number, number>();
  /** Who waits for a hold to end. */
  readonly #waiting: (() => void)[] = [];

  constructor(config: ClusterConfig, catalogue: Catalogue, agent: Agent, log: Logger) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#agent = agent;
    this.#log = log;
  }

  /** By number. */
  async list(): Promise<EpochInfo[]> {
    const { epochs, damaged } = await this.#catalogue.list();
    const pins = await pinnedEpochs(this.#catalogue.directory);
    const whole = epochs.map(({ epoch, createdAt, members }) => {
      const pinned = pins.has(epoch);
      return { epoch, createdAt, members: members.length, pinned, failure: undefined };
    });
    const broken = damaged.map(({ epoch, error }) => {
      const pinned = pins.has(epoch);
      return { epoch, createdAt: undefined, members: 0, pinned, failure: toFailure(error, {}) };
    });
    return [...whole, ...broken].sort((a, b) => a.epoch - b.epoch);
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

  /** @throws UmbraError E_EPOCH_UNKNOWN, or what is wrong with its manifest */
  pin(epoch: number, pinned: boolean): Promise<void> {
    return this.#turn(async () => {
      await this.#catalogue.read(epoch);
      const { directory } = this.#catalogue;
      await (pinned ? pinEpoch(directory, epoch) : unpinEpoch(directory, epoch));
    });
  }

  /**
   * Keeps an epoch's files from being removed while they are read.
   * @param choose names the epoch, in turn with whoever would remove it
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

  /** @throws UmbraError E_EPOCH_UNKNOWN, E_EPOCH_PINNED, E_EPOCH_HELD */
  remove(epoch: number): Promise<void> {
    return this.#turn(async () => {
      await this.#catalogue.read(epoch);
      if ((await pinnedEpochs(this.#catalogue.directory)).has(epoch)) {
        const hint = `Unpin it first: umbra pin ${epoch} --off`;
        throw new UmbraError({ code: 'E_EPOCH_PINNED', message: `epoch ${epoch} is pinned`, hint });
      }
      if (this.#holds.has(epoch)) {
        const message = `a clone is being made of epoch ${epoch}`;
        throw new UmbraError({ code: 'E_EPOCH_HELD', message });
      }
      await this.#catalogue.retire(epoch);
      await this.#agent.collect('free');
    });
  }

  /** Resolves when nobody reads it. */
  async unheld(epoch: number): Promise<void> {
    while (this.#holds.has(epoch)) await new Promise<void>((done) => this.#waiting.push(done));
  }

  /**
   * Lets an epoch be made of other shadows; what it was made of may go then.
   * @returns false, and nothing has changed, if someone reads it
   */
  replace(manifest: EpochManifest): Promise<boolean> {
    return this.#turn(async () => {
      if (this.#holds.has(manifest.epoch)) return false;
      await this.#catalogue.replace(manifest);
      return true;
    });
  }

  /**
   * Retires what the policy keeps no longer (policies/retention.ts). The memory is collected afterwards.
   * @returns how many
   */
  retireOld(nowMs: number): Promise<number> {
    return this.#turn(async () => {
      const { epochs } = await this.#catalogue.list();
      const pins = await pinnedEpochs(this.#catalogue.directory);
      const known = epochs.map(({ epoch, createdAt }) => ({
        epoch,
        committedAtMs: Date.parse(createdAt),
        pinned: pins.has(epoch),
        held: this.#holds.has(epoch),
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
