/**
 * One job of the durable tier, as a process of its own: it can be put behind the VMs, be ended at any
 * step, and a disk that hangs does not hang the daemon. It ends with its job, or with its parent.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DurableStore, fetchEpoch, Pace } from '../../../shadow/durable/index.ts';
import { occupiedBytes } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { takeLowestPriority } from '../../host/lowest-priority.ts';
import type { DurableJob, DurableResults, FromDurable } from '../../protocol/durable.ts';

/** Progress is for people. */
const TELL_EVERY_MS = 200;

function work(job: DurableJob): Promise<DurableResults[DurableJob['type']]> {
  const store = new DurableStore(job.directory, job.cluster);
  const { epoch, shadowsDirectory } = job;
  const onProgress = progressTeller();
  switch (job.type) {
    case 'persist': {
      if (!job.isAwaited) takeLowestPriority();
      const clock = { now: () => performance.now(), sleep: (ms: number) => delay(ms) };
      const pace = new Pace(job.rate, clock);
      const onStep = (step: string) => faultPoint(`persist/${step}`);
      const { parallel } = job;
      const options = { pace, parallel, onStep, onProgress };
      return store.persistShadows(epoch, shadowsDirectory, options);
    }
    case 'fetch': {
      const { staging, trust, headroomBytes, budgetBytes } = job;
      const admit = (bytes: number) => requireBudget(shadowsDirectory, bytes, budgetBytes);
      const options = { shadowsDirectory, staging, trust, headroomBytes, admit, onProgress };
      return fetchEpoch(store, epoch, options);
    }
    case 'verify':
      takeLowestPriority();
      return store.verify(epoch, onProgress).then(() => undefined);
  }
}

async function requireBudget(
  shadowsDirectory: string,
  neededBytes: number,
  budgetBytes: number | undefined,
): Promise<void> {
  if (budgetBytes === undefined) return;
  const missingBytes = (await occupiedBytes(shadowsDirectory)) + neededBytes - budgetBytes;
  if (missingBytes <= 0) return;
  const message = `store.budget: ${neededBytes} bytes are to be fetched, ${missingBytes} too many`;
  throw new UmbraError({ code: 'E_BUDGET', message, missingBytes });
}

function progressTeller() {
  let toldAt = Number.NEGATIVE_INFINITY;
  return (progress: { doneBytes: number; totalBytes: number }) => {
    const now = performance.now();
    if (now - toldAt < TELL_EVERY_MS) return;
    toldAt = now;
    send({ kind: 'progress', progress });
  };
}

function send(message: FromDurable, then: () => void = () => {}): void {
  if (process.connected) process.send?.(message, undefined, undefined, then);
}

process.on('disconnect', () => process.exit(1));
process.once('message', (job: DurableJob) => {
  work(job).then(
    (result) => send({ kind: 'done', result }, () => process.exit(0)),
    (error: unknown) => {
      const failure = toFailure(error, { where: `${job.type} epoch ${job.epoch.epoch}` });
      send({ kind: 'failed', failure }, () => process.exit(1));
    },
  );
});
