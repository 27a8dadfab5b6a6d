/**
 * One job of the durable tier, as a process of its own.
 *
 * It can run at the lowest priority, can be ended at any step, and a hung disk does not hang the
 * daemon. The agent hangs up when it has the answer, or ends itself: either ends this process.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  DurableStore,
  fetchEpoch,
  Pace,
  type PersistProgress,
} from '../../../shadow/durable/index.ts';
import { occupiedBytes } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { parentChannel } from '../../host/child.ts';
import { takeLowestPriority } from '../../host/lowest-priority.ts';
import {
  type DurableJob,
  type DurableResult,
  JOB_AGENT_CALLS,
  JOB_CALLS,
  type JobType,
} from '../../protocol/durable.ts';

/** Progress is read by operators: they need no more of it. */
const TELL_EVERY_MS = 200;

async function persist(job: DurableJob<'persist'>): Promise<DurableResult<'persist'>> {
  if (!job.isAwaited) takeLowestPriority();
  const clock = { now: () => performance.now(), sleep: (ms: number) => delay(ms) };
  const pace = new Pace(job.rate, clock);
  const onStep = (step: string) => faultPoint(`persist/${step}`);
  const { epoch, shadowsDirectory, parallel } = job;
  const options = { pace, parallel, onStep, onProgress: progressTeller() };
  return storeOf(job).persistShadows(epoch, shadowsDirectory, options);
}

async function fetch(job: DurableJob<'fetch'>): Promise<DurableResult<'fetch'>> {
  const { epoch, shadowsDirectory, staging, trust, headroomBytes, budgetBytes } = job;
  const admit = (bytes: number) => requireBudget(shadowsDirectory, bytes, budgetBytes);
  const onProgress = progressTeller();
  const options = { shadowsDirectory, staging, trust, headroomBytes, admit, onProgress };
  return fetchEpoch(storeOf(job), epoch, options);
}

async function verify(job: DurableJob<'verify'>): Promise<undefined> {
  await storeOf(job).verify(job.epoch, progressTeller());
  return undefined;
}

function storeOf({ directory, cluster }: DurableJob): DurableStore {
  return new DurableStore(directory, cluster);
}

/** @throws UmbraError E_BUDGET, with the missing bytes */
async function requireBudget(
  shadowsDirectory: string,
  neededBytes: number,
  budgetBytes: number | undefined,
): Promise<void> {
  if (budgetBytes === undefined) return;
  const missingBytes = (await occupiedBytes(shadowsDirectory)) + neededBytes - budgetBytes;
  if (missingBytes <= 0) return;
  const message = `store.budget: the epoch needs ${neededBytes} bytes, ${missingBytes} too many`;
  throw new UmbraError({ code: 'E_BUDGET', message, missingBytes });
}

function progressTeller(): (progress: PersistProgress) => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const now = performance.now();
    if (now - toldAt < TELL_EVERY_MS) return;
    toldAt = now;
    channel.tell('progress', progress);
  };
}

/** Adds to failures what the job was. */
function located<T extends JobType>(
  type: T,
  work: (job: DurableJob<T>) => Promise<DurableResult<T>>,
): (job: DurableJob<T>) => Promise<DurableResult<T>> {
  return async (job) => {
    try {
      return await work(job);
    } catch (error) {
      throw UmbraError.received(
        toFailure(error, { where: `${type} epoch ${job.epoch.epoch}` }),
        error,
      );
    }
  };
}

process.on('disconnect', () => process.exit(1));
const channel = parentChannel({
  remote: JOB_AGENT_CALLS,
  local: JOB_CALLS,
  handlers: {
    persist: located('persist', persist),
    fetch: located('fetch', fetch),
    verify: located('verify', verify),
  },
  onMisfit: () => process.exit(1),
});
