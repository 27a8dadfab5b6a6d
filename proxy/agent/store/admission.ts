/**
 * What a round's shadows may take of one host's memory: planned when it is admitted, member by member,
 * and handed to proxies when it begins.
 *
 *     budget  ──┐
 *     room    ──┼─ needed fits? ──▶ plans, each with its share of what is left besides
 *     spares  ──┤       └── E_BUDGET, E_BUDGET_TOO_SMALL, E_STORE_NO_ROOM
 *     holes   ──┤
 *     owed    ──┘
 *
 * A fold goes on while rounds come and go. It is admitted between them, and what it has been granted and has not
 * taken yet is owed: no round is given it.
 */
import { admitRound } from '../../../policies/index.ts';
import {
  type Catalogue,
  measureRoom,
  occupiedBytes,
  pruneSpares,
  requireRoom,
} from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import type { Admission } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import type { ExamineResult } from '../../protocol/member.ts';
import { Grants } from './grants.ts';
import { mappedHoles } from './mapped-holes.ts';
import { newestShadows, planStaging, type StagingPlan, shareOf } from './staging-plan.ts';

/** A plan, and what may come to it as pages come, bytes. */
export type AdmittedPlan = StagingPlan & { readonly moreBytes: number };

export class RoundAdmission {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #plans = new Map<string, AdmittedPlan>();
  readonly #folds = new Grants();

  constructor(config: ClusterConfig, catalogue: Catalogue) {
    this.#config = config;
    this.#catalogue = catalogue;
  }

  /** What a member may stage in the round that was admitted last. */
  planOf(member: string): AdmittedPlan | undefined {
    return this.#plans.get(member);
  }

  /** Of all members, in the round that was admitted last. */
  get neededBytes(): number {
    return sum([...this.#plans.values()].map(({ admittedBytes }) => admittedBytes));
  }

  /**
   * @param examined by member
   * @param vms processes of the members
   * @throws UmbraError E_BUDGET, E_BUDGET_TOO_SMALL; ShadowError E_STORE_NO_ROOM
   */
  async admit(
    examined: ReadonlyMap<string, ExamineResult>,
    vms: readonly number[],
  ): Promise<Admission> {
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
   * Grants a fold what its folders are to take, each until `endFold`. No round is under way.
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

  /** What is folded into that folder is there, or gone. Idempotent. */
  endFold(folder: string): void {
    this.#folds.end(folder);
  }

  /**
   * @param spareBytes of the store: part of what will be staged, not of what epochs hold
   * @returns bytes left in the budget; infinite without one
   * @throws UmbraError E_BUDGET, E_BUDGET_TOO_SMALL
   */
  async #requireBudget(
    stagingBytes: number,
    owedBytes: number,
    spareBytes: number,
  ): Promise<number> {
    const { shadowsDirectory, store, round, members } = this.#config;
    const committedBytes = (await occupiedBytes(shadowsDirectory)) - spareBytes;
    const inFlightBytes = round.inFlightBytes * members.length;
    const need = { committedBytes, owedBytes, stagingBytes, inFlightBytes };
    const decision = admitRound(need, store.budgetBytes);
    if (decision.admit) return decision.freeBytes;
    const { reason, missingBytes, never } = decision;
    const code = never ? 'E_BUDGET_TOO_SMALL' : 'E_BUDGET';
    throw new UmbraError({ code, message: `store.budget: ${reason}`, missingBytes });
  }

  async #planStaging(examined: ReadonlyMap<string, ExamineResult>): Promise<StagingPlan[]> {
    const { shadowsDirectory, store } = this.#config;
    const newest = store.delta ? await newestShadows(this.#catalogue, shadowsDirectory) : undefined;
    return Promise.all(
      [...examined].map(([member, { shadowBytes }]) => {
        return planStaging(member, shadowBytes, newest?.get(member));
      }),
    );
  }
}

/** What of a member's delta its block is expected to take, as it will be reserved (shadow/staging.ts). */
function deltaOf(blockBytes: number, { ramBytes, admittedBytes }: StagingPlan): number {
  return Math.floor((admittedBytes * blockBytes) / ramBytes);
}

function isWhole({ base }: StagingPlan): boolean {
  return base === undefined;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
