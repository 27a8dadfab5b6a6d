/**
 * Tidies up after a round, in the order of `STEPS`. By then the epoch is committed, or the round is
 * aborted: tidying must not change what is reported. A step that fails is logged, and is repeated
 * after the next round; the steps after it follow all the same.
 */
import type { Logger } from 'pino';
import type { Agent } from '../protocol/agent.ts';
import type { RoundReport } from '../protocol/report.ts';
import type { Persister } from './durable/persister.ts';
import type { Epochs } from './epochs/epochs.ts';
import type { FoldJob } from './epochs/fold-job.ts';
import type { RoundArchive } from './rounds/round-archive.ts';
import { newRoundName } from './rounds/round-name.ts';

/** Parts of the coordinator that the steps work on. */
export interface TidyingParts {
  readonly agent: Agent;
  readonly epochs: Epochs;
  readonly archive: RoundArchive;
  readonly foldJob: FoldJob;
  /** Undefined without a durable tier. */
  readonly persister: Persister | undefined;
  readonly log: Logger;
}

interface TidyingStep {
  readonly name: string;
  /** The step is for rounds that committed; else it is for every round. */
  readonly committed?: true;
  /** The steps after it do not wait for its end. */
  readonly background?: true;
  readonly work: (parts: TidyingParts, report: RoundReport) => unknown;
}

const STEPS: readonly TidyingStep[] = [
  {
    // First: it decides which shadows, and which layers of disks, the steps after it may remove.
    name: 'retire',
    committed: true,
    work: ({ epochs }) => epochs.retireOld(Date.now()),
  },
  {
    // Early: memory is what the next round needs. After an aborted round, too: it has staged.
    name: 'collect',
    work: ({ agent }) => agent.collect('recycle'),
  },
  {
    // After `collect`: images that are gone need not be looked through.
    name: 'holes',
    committed: true,
    work: ({ agent }) => agent.reclaimHoles(),
  },
  {
    // After `retire`: layers that no epoch names any more are merged. It frees disk, not memory.
    name: 'disks',
    work: (parts) => tidyDisks(parts),
  },
  {
    // After what frees memory: nothing waits for a stored report.
    name: 'archive',
    work: ({ archive }, report) => archive.add(report),
  },
  {
    // It waits until the cluster is free, which is only after this table: no step may wait for it.
    name: 'fold',
    committed: true,
    background: true,
    work: async ({ foldJob }, { epoch }) => {
      if (epoch !== undefined) await foldJob.foldIfLarge(epoch, newRoundName(epoch));
    },
  },
  {
    // After `retire`: an epoch that goes at once is not to be brought to disk.
    name: 'persist',
    work: ({ persister }) => persister?.wake(),
  },
];

/** Runs all steps that this round calls for. */
export async function tidyAfter(report: RoundReport, parts: TidyingParts): Promise<void> {
  for (const { name, committed, background, work } of STEPS) {
    if (committed === true && report.failure !== undefined) continue;
    const done = tidy(name, parts.log, () => work(parts, report));
    if (background !== true) await done;
  }
}

/** Runs one step; a failure is logged. */
export async function tidy(name: string, log: Logger, work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    log.error({ err: error, what: name }, 'could not tidy up after the round');
  }
}

/** Merges layers over the members' disks that no epoch names; none while a manifest is damaged. */
export async function tidyDisks({
  agent,
  epochs,
}: Pick<TidyingParts, 'agent' | 'epochs'>): Promise<void> {
  const manifests = await epochs.manifests();
  if (manifests !== undefined) await agent.tidyDisks(manifests);
}
