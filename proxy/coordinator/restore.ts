/**
 * Brings an epoch back: all members paused, a barrier, then all resume.
 *
 *     verify ▶ plan ▶ kill what still runs ▶ load all ▶ (barrier) ▶ resume all
 *        └──────┴── nothing has been touched       └── any failure: kill all that was started
 *
 * A partial restore is never left running: it is completed or undone.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import type { EpochManifest } from '../../shadow/index.ts';
import type { MemberRestored, RestoringAgent } from '../agent/contract.ts';
import { UmbraError } from '../failure.ts';
import { faultPoint } from '../fault-point.ts';
import type { RestoreMode } from '../member/messages.ts';
import type { RestoreReport } from './report.ts';

/** Starting hundreds of QEMUs at one instant helps nobody. */
const LOADS_AT_ONCE = 16;

export interface RestoreOptions {
  readonly mode: RestoreMode | 'auto';
  /** Kill members that still run; without it, they are a reason to refuse. */
  readonly replace: boolean;
  /** `all` reads every byte again before anything is started. */
  readonly verify: 'changed' | 'all';
  /** `disk`: what is in memory is not trusted. */
  readonly from: 'auto' | 'disk';
}

export interface RestoreProgress {
  readonly kind: 'restore-progress';
  readonly step: 'fetch' | 'verify' | 'plan' | 'kill' | 'load' | 'loaded' | 'resume';
  readonly member?: string;
}

export async function restoreEpoch(
  agent: RestoringAgent,
  epoch: EpochManifest,
  options: RestoreOptions,
  log: Logger,
  onProgress: (progress: RestoreProgress) => void,
): Promise<RestoreReport> {
  const startedAt = performance.now();
  const tell = (step: RestoreProgress['step'], member?: string) =>
    onProgress({ kind: 'restore-progress', step, ...(member !== undefined && { member }) });
  tell('verify');
  const planned = agent.planRestore(epoch, options.mode); // touches nothing
  planned.catch(() => {}); // damage is told before anything else
  await agent.verify(epoch, options.verify);
  const verifyMs = performance.now() - startedAt;
  tell('plan');
  const plans = await planned;
  const killed = await killRunning(agent, epoch, options.replace, (member) => tell('kill', member));
  tell('load');
  await agent.beginRestore();
  const loadingAt = performance.now();
  const limit = pLimit(LOADS_AT_ONCE);
  try {
    const loads = await Promise.allSettled(
      plans.map((plan) =>
        limit(async () => {
          const restored = await agent.load(plan);
          tell('loaded', plan.member);
          return { ...restored, reason: plan.reason };
        }),
      ),
    );
    const members = requireAll(loads);
    const loadMs = performance.now() - loadingAt;
    faultPoint('restore/loaded');
    tell('resume');
    const resumes = requireAll(
      await Promise.allSettled(plans.map(({ member }) => agent.resume(member))),
    );
    await agent.endRestore('done');
    return {
      kind: 'restore',
      epoch: epoch.epoch,
      durationMs: performance.now() - startedAt,
      verifyMs,
      fetchMs: undefined,
      loadMs,
      skewMs: (Math.max(...resumes) - Math.min(...resumes)) / 1000,
      killed,
      members: members as RestoreReport['members'] & MemberRestored[],
    };
  } catch (error) {
    log.error({ epoch: epoch.epoch, err: error }, 'restore failed; undoing it');
    await agent.endRestore('undo');
    throw error;
  }
}

async function killRunning(
  agent: RestoringAgent,
  epoch: EpochManifest,
  replace: boolean,
  tell: (member: string) => void,
): Promise<string[]> {
  const alive = await agent.alivePids();
  const running = epoch.members.map(({ name }) => name).filter((name) => alive.has(name));
  if (running.length > 0 && !replace) {
    const list = running.map((name) => `${name} (pid ${alive.get(name)})`).join(', ');
    throw new UmbraError({ code: 'E_MEMBERS_RUNNING', message: `still running: ${list}` });
  }
  await Promise.all(
    running.map(async (name) => {
      tell(name);
      await agent.killVm(name);
    }),
  );
  return running;
}

function requireAll<T>(results: readonly PromiseSettledResult<T>[]): T[] {
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
