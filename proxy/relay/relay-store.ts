/**
 * The shadows of migrations: a catalogue of its own, an epoch a migration.
 *
 *     STORE/epochs/000003.json      epoch 3: one member, the VM that passed
 *     STORE/shadows/ROUND/MEMBER    its shadow
 *     STORE/lock                    one relay at a time
 *
 * Shadows kept, shadows being staged, and bytes in flight never take more than the budget. A VM for
 * which there is no room passes without a shadow.
 */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { admitRound } from '../../policies/index.ts';
import {
  type BlockLayout,
  Catalogue,
  collectLeftovers,
  makeEpochManifest,
  makeOwnFolder,
  makeTrustedFolder,
  occupiedBytes,
  pruneSpares,
  ROUND_RANDOM_BYTES,
  roundName,
  StagingShadow,
  spareDirectory,
} from '../../shadow/index.ts';
import { UmbraError } from '../failure/failure.ts';
import { clusterFolder } from '../host/folders.ts';
import { type Lock, lockCluster } from '../host/lock.ts';
import type { StreamResult } from '../intake/shadow-sink.ts';
import { RELAY_CLUSTER, type RelayShadows } from '../protocol/relay.ts';
import { IN_FLIGHT_BYTES } from './limits.ts';
import type { ShadowReport } from './report.ts';

/** A shadow that is being written. */
export interface Staged {
  readonly shadow: StagingShadow;
  /** Makes it an epoch. @throws ShadowError; it must still be discarded then */
  keep(result: StreamResult, machineType: string): Promise<ShadowReport>;
  discard(): Promise<void>;
}

export class RelayStore {
  #options: RelayShadows;
  readonly #catalogue: Catalogue;
  readonly #lock: Lock;
  readonly #turn = pLimit(1);
  /** Bytes that rounds being staged may take, by round. */
  readonly #granted = new Map<string, number>();

  /** Opens the store and removes leftovers. @throws UmbraError E_DAEMON_RUNS, ShadowError */
  static async open(options: RelayShadows): Promise<RelayStore> {
    const { directory } = options;
    makeTrustedFolder(directory);
    makeOwnFolder(shadowsOf(directory));
    const store = new RelayStore(options, lockCluster(directory, RELAY_CLUSTER));
    try {
      await store.#catalogue.prepare();
      await collectLeftovers(store.#shadows, store.#catalogue);
      return store;
    } catch (error) {
      store.close();
      throw error;
    }
  }

  private constructor(options: RelayShadows, lock: Lock) {
    this.#options = options;
    this.#lock = lock;
    this.#catalogue = relayCatalogue(options.directory);
  }

  close(): void {
    this.#lock.release();
  }

  /** Changes what shadows may take, from the next on, and how many stay. */
  reconfigure(options: RelayShadows): void {
    this.#options = { ...options, directory: this.#options.directory };
  }

  get inFlightBytes(): number {
    return this.#options.inFlightBytes;
  }

  /**
   * Reserves the shadow of a VM.
   * @throws UmbraError E_BUDGET, ShadowError E_STORE_NO_ROOM, E_STORE_IO; nothing is left behind
   */
  stage(member: string, blocks: readonly BlockLayout[], pageSize: number): Promise<Staged> {
    return this.#turn(async () => {
      const epoch = await this.#catalogue.nextEpoch();
      const round = roundName(epoch, randomBytes(ROUND_RANDOM_BYTES));
      const lengths = blocks.map(({ length }) => length);
      // Memory of retired epochs is used again: fresh memory is several times slower.
      const spareBytes = await pruneSpares(this.#shadows, { full: lengths, deltas: [] });
      const moreBytes = await this.#grant(sum(lengths), spareBytes);
      const { headroomBytes } = this.#options;
      const directory = join(this.#shadows, round, member);
      const options = { reservedBytes: 0, moreBytes, headroomBytes };
      const location = { directory, member, round, spares: spareDirectory(this.#shadows) };
      const shadow = await StagingShadow.reserve(location, blocks, pageSize, options);
      this.#granted.set(round, moreBytes);
      return {
        shadow,
        keep: (result, machineType) => this.#keep(member, round, shadow, result, machineType),
        discard: () => this.#discard(round, shadow),
      };
    });
  }

  /**
   * Grants all of a VM's memory if that fits, else what is left.
   * @param spareBytes memory of retired epochs that it will use again
   */
  async #grant(ramBytes: number, spareBytes: number): Promise<number> {
    const { budgetBytes, inFlightBytes: asideBytes } = this.#options;
    const rounds = [...this.#granted.keys()];
    const staged = await Promise.all(
      rounds.map((name) => occupiedBytes(join(this.#shadows, name))),
    );
    const kept = (await occupiedBytes(this.#shadows)) - sum(staged) - spareBytes;
    const committedBytes = kept + sum([...this.#granted.values()]);
    // Besides its shadow, a migration takes what is kept aside, and what is between the sockets.
    const inFlightBytes = (rounds.length + 1) * (asideBytes + 2 * IN_FLIGHT_BYTES);
    const need = { committedBytes, stagingBytes: ramBytes, inFlightBytes };
    const decision = admitRound(need, budgetBytes);
    if (decision.admit) return ramBytes;
    const { missingBytes, reason } = decision;
    if (missingBytes < ramBytes) return ramBytes - missingBytes;
    throw new UmbraError({ code: 'E_BUDGET', message: reason, missingBytes });
  }

  async #keep(
    member: string,
    round: string,
    shadow: StagingShadow,
    result: StreamResult,
    machineType: string,
  ): Promise<ShadowReport> {
    const identity = { machineType, qemuVersion: '', uuid: '', name: member };
    const unknown = { commandLine: [], workingDirectory: '' };
    const sealed = await shadow.seal({ ...result, identity: { ...identity, ...unknown } });
    return this.#turn(async () => {
      const epoch = await this.#catalogue.nextEpoch();
      const manifest = makeEpochManifest({
        cluster: RELAY_CLUSTER,
        epoch,
        round,
        createdAt: new Date().toISOString(),
        members: [{ name: member, shadow: sealed.sha256 }],
      });
      await this.#catalogue.publish(manifest);
      this.#granted.delete(round);
      await this.#retireOld(member);
      const { storedBytes } = sealed;
      return { kept: true, epoch, storedBytes };
    });
  }

  async #retireOld(member: string): Promise<void> {
    const { epochs } = await this.#catalogue.list();
    const own = epochs.filter(({ members }) => members[0]?.name === member);
    for (const { epoch } of own.slice(0, -this.#options.keep)) await this.#catalogue.retire(epoch);
    const keep = (round: string) => this.#granted.has(round);
    await collectLeftovers(this.#shadows, this.#catalogue, { keep, recycle: true });
  }

  async #discard(round: string, shadow: StagingShadow): Promise<void> {
    await shadow.discard();
    await rm(join(this.#shadows, round), { recursive: true, force: true });
    this.#granted.delete(round);
  }

  get #shadows(): string {
    return shadowsOf(this.#options.directory);
  }
}

export function relayCatalogue(directory: string): Catalogue {
  return new Catalogue(clusterFolder(directory, 'epochs'), RELAY_CLUSTER);
}

export function shadowsOf(directory: string): string {
  return clusterFolder(directory, 'shadows');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
