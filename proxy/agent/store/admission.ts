/**
 * The memory of one host that a round's shadows may take. It is planned member by member when the
 * round is admitted, and handed to the proxies when the round begins.
 *
 *     budget  ──┐
 *     room    ──┼─ needed fits? ──▶ plans, each with its share of what is left besides
 *     spares  ──┤       └── E_BUDGET, E_BUDGET_TOO_SMALL, E_STORE_NO_ROOM
 *     holes   ──┤
 *     owed    ──┘
 *
 * A fold runs while rounds come and go. It is admitted between two rounds. What has been granted to
 * it and is not taken yet is owed: no round gets that.
 */
import { admitRound } from '../../../policies/index.ts';
import {
  type Catalogue,
  measureRoom,
  pruneSpares,
  requireRoom,
  type SealedShadow,
  StoreBytes,
} from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import type { Admission } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import type { ExamineResult } from '../../protocol/member.ts';
import { Grants } from './grants.ts';
import { mappedHoles } from './mapped-holes.ts';
import { newestShadows, planStaging, type StagingPlan, shareOf } from './staging-plan.ts';

/** The sizes of a VM's RAM. */
type RamSizes = Pick<ExamineResult, 'shadowBytes' | 'blockBytes'>;

/** A plan, and the bytes that may be added to it while pages arrive. */
export type AdmittedPlan = StagingPlan & { readonly moreBytes: number };

/** Admits rounds and folds of one cluster. */
export class RoundAdmission {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #plans = new Map<string, AdmittedPlan>();
  readonly #folds = new Grants();
  /** Shadows of the newest epoch, and of their chains, by digest. */
  readonly #known = new Map<string, SealedShadow>();
  readonly #storeBytes: StoreBytes;

  constructor(config: ClusterConfig, catalogue: Catalogue) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#storeBytes = new StoreBytes(config.shadowsDirectory);
  }

  /** Returns the plan of a member in the round that was admitted last. */
  planOf(member: string): AdmittedPlan | undefined {
    return this.#plans.get(member);
  }

  /** Returns the bytes of all members' plans in the round that was admitted last. */
  get neededBytes(): number {
    return sum([...this.#plans.values()].map(({ admittedBytes }) => admittedBytes));
  }

  /**
   * Admits a round: plans what its members will stage, and requires that there is room for it.
   * @param examined the answers of the proxies, by member
   * @param vms pids of the members' VMs
   * @throws UmbraError E_BUDGET, E_BUDGET_TOO_SMALL; ShadowError E_STORE_NO_ROOM
   */
  async admit(examined: ReadonlyMap<string, RamSizes>, vms: readonly number[]): Promise<Admission> {
    const { shadowsDirectory, store } = this.#config;
    const plans = await this.#planStaging(examined);
    const neededBytes = sum(plans.map(({ admittedBytes }) => admittedBytes));
    const owedBytes = await this.#folds.owedBytes();
    const blocksOf = ({ member }: StagingPlan) => examined.get(member)?.blockBytes ?? [];
    const spareBytes = await pruneSpares(shadowsDirectory, {
      full: plans.filter(isWhole).flatMap(blocksOf),
      deltas: plans
        .filter((plan) => !isWhole(plan))
        .flatMap((plan) => blocksOf(plan).map((bytes) => deltaOf(bytes, plan))),
    });
    const holeBytes = mappedHoles(vms);
    const freeBytes = await this.#requireBudget(neededBytes + holeBytes, owedBytes, spareBytes);
    const freshBytes = neededBytes + holeBytes - spareBytes + owedBytes;
    requireRoom(shadowsDirectory, freshBytes, store.headroomBytes);
    const { availableBytes } = measureRoom(shadowsDirectory);
    const roomBytes = availableBytes - freshBytes - store.headroomBytes;
    this.#plans.clear();
    for (const plan of plans) {
      const moreBytes = shareOf(plan, plans, Math.min(freeBytes, roomBytes));
      this.#plans.set(plan.member, { ...plan, moreBytes });
    }
    return { neededBytes, freeBytes };
  }

  /**
   * Grants a fold the memory of its folders, each until `endFold`. No round may be under way.
   * @param needed bytes, by folder
   * @throws UmbraError E_BUDGET, E_BUDGET_TOO_SMALL; ShadowError E_STORE_NO_ROOM
   */
  async admitFold(needed: ReadonlyMap<string, number>): Promise<void> {
    const { shadowsDirectory, store } = this.#config;
    const neededBytes = sum([...needed.values()]);
    const owedBytes = await this.#folds.owedBytes();
    await this.#requireBudget(neededBytes, owedBytes, 0);
    requireRoom(shadowsDirectory, neededBytes + owedBytes, store.headroomBytes);
    for (const [folder, bytes] of needed) this.#folds.grant(folder, bytes);
  }

  /** Ends the grant of a folder: what is folded there is complete, or removed. Idempotent. */
  endFold(folder: string): void {
    this.#folds.end(folder);
  }

  /**
   * Requires that the budget has room for what will be staged.
   * @param spareBytes bytes of recycled images: they become part of what will be staged
   * @returns bytes left in the budget; infinite without a budget
   * @throws UmbraError E_BUDGET, E_BUDGET_TOO_SMALL
   */
  async #requireBudget(
    stagingBytes: number,
    owedBytes: number,
    spareBytes: number,
  ): Promise<number> {
    const { store, round, members } = this.#config;
    const committedBytes = (await this.#storeBytes.measure()) - spareBytes;
    const inFlightBytes = round.inFlightBytes * members.length;
    const need = { committedBytes, owedBytes, stagingBytes, inFlightBytes };
    const decision = admitRound(need, store.budgetBytes);
    if (decision.admit) return decision.freeBytes;
    const { reason, missingBytes, never } = decision;
    const code = never ? 'E_BUDGET_TOO_SMALL' : 'E_BUDGET';
    throw new UmbraError({ code, message: `store.budget: ${reason}`, missingBytes });
  }

  async #planStaging(examined: ReadonlyMap<string, RamSizes>): Promise<StagingPlan[]> {
    const { shadowsDirectory, store } = this.#config;
    const newest = store.delta
      ? await newestShadows(this.#catalogue, shadowsDirectory, this.#known)
      : undefined;
    return Promise.all(
      [...examined].map(([member, { shadowBytes }]) => {
        return planStaging(member, shadowBytes, newest?.get(member));
      }),
    );
  }
}

/**
 * Returns the bytes that a block is expected to take in a member's delta, as shadow/staging.ts
 * reserves.
 */
function deltaOf(blockBytes: number, { ramBytes, admittedBytes }: StagingPlan): number {
  return Math.floor((admittedBytes * blockBytes) / ramBytes);
}

function isWhole({ base }: StagingPlan): boolean {
  return base === undefined;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
