/**
 * Brings an epoch back: all members paused, a barrier, then all resume.
 *
 *     plan ▶ verify ▶ rehearse ▶ kill what still runs ▶ load all ▶ (barrier) ▶ resume all
 *        └──────┴────────┴── nothing has been touched  └── any failure: kill all that was started
 *                                                                       (catch up clocks) ◀─┘
 *
 * A load is rehearsed where VMs that run would be killed, and come back on another QEMU.
 *
 * A quick verification runs while VMs start, unless VMs that run would be killed first: starting
 * takes longer. It has to end before any VM resumes.
 *
 * A partial restore is never left running: it is completed or undone.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import type { EpochManifest } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { MemberRestored, RestoringAgent } from '../../protocol/agent.ts';
import type { RestoreOptions } from '../../protocol/operator.ts';
import type { RestoreProgress } from '../../protocol/progress.ts';
import type { RestoreReport } from '../../protocol/report.ts';
import { catchUpClock, clockLags, clockSpreadMs } from './clocks.ts';

/** Hundreds of QEMUs that start at one instant only slow one another down. */
const LOADS_AT_ONCE = 16;

export interface RestoreWork {
  readonly agent: RestoringAgent;
  readonly epoch: EpochManifest;
  readonly options: RestoreOptions;
  /** Time of the request, by performance.now(). */
  readonly askedAt: number;
  readonly log: Logger;
  readonly onProgress: (progress: RestoreProgress) => void;
}

/**
 * Brings an epoch back. Once in many hundreds of restores a QEMU dies by itself in the instant it
 * is to run (seen with 10.0.2: a null pointer in its own code). All is undone then, and tried once
 * more.
 */
export async function restoreEpoch(work: RestoreWork): Promise<RestoreReport> {
  try {
    return await attempt(work);
  } catch (error) {
    const { code, where, member } = toFailure(error, {});
    if (where !== 'resume' || code !== 'E_QMP_CLOSED') throw error;
    work.log.warn({ epoch: work.epoch.epoch, member }, 'a VM died when it was to run; once more');
    return attempt(work);
  }
}

async function attempt(work: RestoreWork): Promise<RestoreReport> {
  const { agent, epoch, options, askedAt, log, onProgress } = work;
  const tell = (step: RestoreProgress['step'], member?: string) =>
    onProgress({ kind: 'restore-progress', step, ...(member !== undefined && { member }) });
  const verify = once(async () => {
    tell('verify');
    const verifyingAt = performance.now();
    await agent.verify(epoch, options.verify);
    return performance.now() - verifyingAt;
  });
  tell('plan');
  const planning = Promise.all([agent.planRestore(epoch, options), agent.alivePids()]);
  const [plans, alive] = await planning.catch(async (error: unknown) => {
    await verify(); // damage is reported before anything else
    throw error;
  });
  const running = epoch.members.map(({ name }) => name).filter((name) => alive.has(name));
  // Else it runs while VMs load: they are paused, and are killed if the epoch is damaged.
  if (running.length > 0 || options.verify === 'all') await verify();
  if (!options.replace) requireNone(running, alive);
  // Else VMs that run well could be killed for an epoch that does not load.
  if (running.length > 0) await agent.rehearse(plans);
  faultPoint('restore/planned');
  const killed = await killAll(agent, running, (member) => tell('kill', member));
  faultPoint('restore/killed');
  tell('load');
  await agent.beginRestore();
  faultPoint('restore/begun');
  const loadingAt = performance.now();
  const limit = pLimit(LOADS_AT_ONCE);
  let restored: RestoreReport;
  try {
    const loading = Promise.allSettled(
      plans.map((plan) =>
        limit(async () => {
          const loaded = await agent.load(plan);
          tell('loaded', plan.member);
          const { reason = plan.reason } = loaded;
          return { ...loaded, reason, note: plan.note };
        }),
      ),
    );
    const [verified] = await Promise.allSettled([verify(), loading]);
    const [verifyMs = 0] = requireAll([verified]);
    const members = requireAll(await loading);
    const loadMs = performance.now() - loadingAt;
    faultPoint('restore/loaded');
    tell('resume');
    const resumes = requireAll(
      await Promise.allSettled(
        plans.map(async ({ member }) => [member, await agent.resume(member)] as const),
      ),
    );
    const answeredMs = performance.now() - askedAt;
    const resumesUs = resumes.map(([, resumedAtUs]) => resumedAtUs);
    const durationMs = answeredMs - runningFor(resumesUs, Date.now(), answeredMs);
    faultPoint('restore/resumed');
    await agent.endRestore('done');
    restored = {
      kind: 'restore',
      epoch: epoch.epoch,
      durationMs,
      verifyMs,
      fetchMs: undefined,
      loadMs,
      skewMs: (Math.max(...resumesUs) - Math.min(...resumesUs)) / 1000,
      killed,
      members: withLags(members, clockLags(epoch, new Map(resumes))),
    };
  } catch (error) {
    log.error({ epoch: epoch.epoch, err: error }, 'restore failed; undoing it');
    await agent.endRestore('undo');
    throw error;
  }
  if (options.clock === 'keep') return restored;
  tell('clock');
  return withClocks(restored, agent);
}

function withLags(
  members: readonly MemberRestored[],
  lags: ReadonlyMap<string, number>,
): MemberRestored[] {
  return members.map((one) => ({ ...one, clockLagMs: lags.get(one.member), clock: 'kept' }));
}

/** Catches up the clocks of all members, at once: the restore itself is over. */
async function withClocks(report: RestoreReport, agent: RestoringAgent): Promise<RestoreReport> {
  const members = await Promise.all(
    report.members.map(async (one) => ({ ...one, ...(await catchUpClock(agent, one.member)) })),
  );
  return { ...report, members, clockSpreadMs: clockSpreadMs(members) };
}

/**
 * Returns for how long all VMs have been running when the answers to `cont` arrive. Those come
 * late, because the VMs have the cores by then.
 * @param resumes wall-clock microseconds, from QEMU's RESUME events
 * @param nowMs by the same clock, which may have been set meanwhile
 * @param mostMs since they were asked for
 * @returns milliseconds; 0 if the clock cannot be right
 */
function runningFor(resumes: readonly number[], nowMs: number, mostMs: number): number {
  const sinceMs = nowMs - Math.max(...resumes) / 1000;
  return sinceMs > 0 && sinceMs < mostMs ? sinceMs : 0;
}

/** Wraps work so that the first call runs it, and later calls get the same outcome. */
function once<T>(work: () => Promise<T>): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  return () => {
    outcome ??= work();
    return outcome;
  };
}

/** @throws UmbraError E_MEMBERS_RUNNING */
function requireNone(running: readonly string[], pids: ReadonlyMap<string, number>): void {
  if (running.length === 0) return;
  const list = running.map((name) => `${name} (pid ${pids.get(name)})`).join(', ');
  throw new UmbraError({ code: 'E_MEMBERS_RUNNING', message: `still running: ${list}` });
}

async function killAll(
  agent: RestoringAgent,
  members: readonly string[],
  tell: (member: string) => void,
): Promise<string[]> {
  await Promise.all(
    members.map(async (name) => {
      tell(name);
      await agent.killVm(name);
    }),
  );
  return [...members];
}

function requireAll<T>(results: readonly PromiseSettledResult<T>[]): T[] {
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
