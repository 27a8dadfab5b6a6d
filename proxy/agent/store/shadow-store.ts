/**
 * Epochs in this host's memory: the folders that rounds are staged in, the removal of what no epoch
 * needs, folding and verifying. It knows nothing of VMs.
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import {
  type BaseRounds,
  type Catalogue,
  chainOf,
  collectLeftovers,
  type EpochManifest,
  makeOwnFolder,
  openShadow,
  pruneSpares,
  Remembered,
  type SealedShadow,
  ShadowError,
  verifyShadow,
} from '../../../shadow/index.ts';
import { allOrFirstFailure } from '../../failure/all-or-first-failure.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { FoldUnderWay } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import type { RoundAdmission } from './admission.ts';
import { deltaShare, foldEpoch, ramBytesOf } from './folding.ts';
import type { RoundsInUse } from './rounds-in-use.ts';

/** Reading whole images is bound by the cores, not by the number of members. */
const VERIFY_AT_ONCE = 2;

/** The store of one cluster. */
export class ShadowStore {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #held: RoundsInUse;
  readonly #log: Logger;
  readonly #turn = pLimit(1);
  readonly #bases: BaseRounds = new Remembered();
  /** Shadows that were opened to see whether they are worth folding, by digest. */
  readonly #known = new Map<string, SealedShadow>();
  /**
   * Leftovers that the last collect kept because they were held, and how they were to be removed.
   */
  #passedBy: ReadonlyMap<string, 'recycle' | 'free'> = new Map();
  /**
   * Epochs on their way from disk: until they are published, no manifest says what belongs to them.
   */
  #arriving = 0;

  /** @param held rounds that are not collected */
  constructor(config: ClusterConfig, catalogue: Catalogue, held: RoundsInUse, log: Logger) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#held = held;
    this.#log = log;
  }

  /** Makes its folders, and removes what an earlier life of the agent has left. */
  async open(): Promise<void> {
    // Elsewhere than in the cluster's own folder, it has one of its own there.
    makeOwnFolder(dirname(this.#config.shadowsDirectory));
    makeOwnFolder(this.#config.shadowsDirectory);
    await this.collect('free');
  }

  /**
   * Makes the folder a round is staged in. It stays until all members have left it, and `endRound`.
   * @throws ShadowError E_STORE_IO
   */
  async beginRound(round: string): Promise<void> {
    const { members, shadowsDirectory } = this.#config;
    const path = join(shadowsDirectory, round);
    const holders = members.length + 1;
    this.#held.hold(round, holders); // before it exists: it is no leftover
    try {
      await mkdir(path, { mode: 0o700 });
    } catch (cause) {
      for (let holder = 0; holder < holders; holder++) this.#held.release(round);
      const { code } = cause as NodeJS.ErrnoException;
      throw new ShadowError('E_STORE_IO', `cannot make ${path}: ${code}`, { path, cause });
    }
  }

  /** Returns the folder of a member's shadow. */
  shadowDirectory(round: string, member: string): string {
    return join(this.#config.shadowsDirectory, round, member);
  }

  /**
   * Removes what no epoch needs, one collect at a time.
   * @param how `recycle` keeps images for the next round, if the configuration allows that
   * @returns the rounds whose shadows were removed
   */
  collect(how: 'recycle' | 'free'): Promise<readonly string[]> {
    return this.#turn(() => this.#collect(how));
  }

  async #collect(how: 'recycle' | 'free'): Promise<readonly string[]> {
    const { shadowsDirectory, store } = this.#config;
    const recycle = how === 'recycle' && store.recycle;
    const passedBy = new Map<string, 'recycle' | 'free'>();
    const removed = await collectLeftovers(shadowsDirectory, this.#catalogue, {
      // A staged round is held until it is published; what is fetched is arriving until then.
      keep: (round) => this.#arriving > 0 || this.#held.has(round),
      onKept: (round) => {
        passedBy.set(round, how === 'free' ? how : (this.#passedBy.get(round) ?? how));
      },
      onBlocked: (epoch, error) => {
        const failure = toFailure(error, { where: 'collect' });
        const hint = `nothing is given back until it is removed: umbra rm ${epoch}`;
        this.#log.error({ failure, epoch, hint }, 'an epoch does not say what it needs');
      },
      recycle,
      bases: this.#bases,
      onStep: (step) => faultPoint(`store/${step}`),
    });
    this.#passedBy = passedBy;
    // An epoch is removed to get its memory back.
    if (how === 'free') await pruneSpares(shadowsDirectory, { full: [], deltas: [] });
    return removed;
  }

  /** Returns how much an epoch is worth folding (folding.ts). */
  async deltaShare(epoch: EpochManifest): Promise<number> {
    const { epochs } = await this.#catalogue.list();
    const kept = new Set(epochs.map(({ round }) => round));
    const shadows = await this.#openShadows(epoch, this.#known);
    this.#known.clear();
    for (const shadow of shadows.flatMap(chainOf)) this.#known.set(shadow.sha256, shadow);
    return deltaShare(shadows, kept);
  }

  /**
   * Writes an epoch's shadows anew, in the folder of `round`, which is held from then on. The
   * shadows it reads are held until it has read them. No round may be under way when this is
   * called. The memory it is granted stays granted until it has ended.
   * @throws UmbraError E_BUDGET, E_EPOCH_CORRUPT; ShadowError E_STORE_NO_ROOM. The promise it
   * returns rejects with the same errors, and nothing is left then
   */
  async beginFold(
    epoch: EpochManifest,
    round: string,
    admission: RoundAdmission,
    signal: AbortSignal,
  ): Promise<FoldUnderWay> {
    const shadows = await this.#openShadows(epoch);
    const needed = shadows.map((shadow) => {
      return [this.shadowDirectory(round, shadow.manifest.member), ramBytesOf(shadow)] as const;
    });
    await admission.admitFold(new Map(needed));
    return { members: this.#fold(epoch, shadows, round, admission, signal) };
  }

  async #fold(
    epoch: EpochManifest,
    shadows: readonly SealedShadow[],
    round: string,
    admission: RoundAdmission,
    signal: AbortSignal,
  ): Promise<EpochManifest['members']> {
    const { shadowsDirectory } = this.#config;
    this.#held.hold(round);
    const read = new Set(shadows.flatMap(roundsOf));
    for (const one of read) this.#held.hold(one);
    try {
      return await foldEpoch(epoch, shadows, { shadowsDirectory, round }, signal, (folder) =>
        admission.endFold(folder),
      );
    } catch (error) {
      this.endRound(round);
      throw error;
    } finally {
      for (const { name } of epoch.members) admission.endFold(this.shadowDirectory(round, name));
      for (const one of read) this.#held.release(one);
      this.#collectLate();
    }
  }

  /** Ends a round: its shadows are published or abandoned. */
  endRound(round: string): void {
    this.#held.release(round);
  }

  /**
   * Verifies an epoch's shadows. They are held while they are read, so the epoch may be removed or
   * folded in the meantime.
   * @throws UmbraError E_EPOCH_CORRUPT
   */
  async verify(epoch: EpochManifest, mode: 'changed' | 'all'): Promise<void> {
    const limit = pLimit(VERIFY_AT_ONCE);
    const reading = new Set<string>();
    const read = (round: string) => {
      if (reading.has(round)) return;
      reading.add(round);
      this.#held.hold(round);
    };
    read(epoch.round);
    try {
      await allOrFirstFailure(
        epoch.members.map(({ name, shadow }) =>
          limit(async () => {
            const directory = this.shadowDirectory(epoch.round, name);
            try {
              const opened = await openShadow(directory, shadow);
              for (const link of chainOf(opened)) read(link.manifest.round);
              await verifyShadow(opened, mode);
            } catch (error) {
              throw UmbraError.received(toFailure(error, { member: name, where: 'verify' }), error);
            }
          }),
        ),
      );
    } finally {
      for (const round of reading) this.#held.release(round);
      this.#collectLate();
    }
  }

  /** Begins a fetch: nothing is collected from now on, until `endFetch`. */
  beginFetch(): void {
    this.#arriving++;
  }

  /** Ends a fetch: its shadows are published or abandoned. */
  endFetch(): void {
    this.#arriving--;
    this.#collectLate();
  }

  /**
   * Collects what the last collect kept because it was held. No caller waits for that. If it fails,
   * the collect after the next round tries again, and reports the failure.
   */
  #collectLate(): void {
    const collect = async () => {
      const late = [...this.#passedBy].filter(([round]) => !this.#held.has(round));
      if (late.length === 0) return;
      await this.#collect(late.some(([, how]) => how === 'free') ? 'free' : 'recycle');
    };
    this.#turn(collect).catch(() => {});
  }

  #openShadows(
    { round, members }: EpochManifest,
    known?: ReadonlyMap<string, SealedShadow>,
  ): Promise<SealedShadow[]> {
    return Promise.all(
      members.map(({ name, shadow }) =>
        openShadow(this.shadowDirectory(round, name), shadow, known),
      ),
    );
  }
}

/** Returns the rounds a shadow is in: its own, and those of the chain of its bases. */
function roundsOf(shadow: SealedShadow): string[] {
  return chainOf(shadow).map(({ manifest }) => manifest.round);
}
