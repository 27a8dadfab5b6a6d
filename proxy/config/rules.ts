/** Problems of options that are each right by themselves. PURE. */
import { SLOT_MS_MIN } from '../protocol/round-settings.ts';
import type { ClusterPaths } from './resolve.ts';
import type { ClusterFile } from './schema.ts';

/**
 * Finds options that contradict each other, and options that have no effect: they are a
 * misunderstanding, too.
 * @returns each problem, by its path in the file
 */
export function contradictions(file: ClusterFile): string[] {
  return [
    ...multiplexingProblems(file),
    ...captureProblems(file.round),
    ...endWhenProblems(file.round),
    ...storeProblems(file),
    ...persistProblems(file),
    ...checkpointProblems(file),
  ];
}

/**
 * Finds folders of a cluster that are, or contain, each other: emptying one would empty the other.
 */
export function overlaps({ directory, store, durable }: ClusterPaths): string[] {
  if (durable === undefined) return [];
  const isSafe = [directory, store].every(
    (one) => !contains(one, durable) && !contains(durable, one),
  );
  if (isSafe) return [];
  return [`persist.to: ${durable} must not overlap the cluster’s folder or its store`];
}

function contains(folder: string, path: string): boolean {
  return `${path}/`.startsWith(`${folder}/`);
}

function multiplexingProblems({ round, members }: ClusterFile): string[] {
  const { multiplexing, slots, dirtyShare, slot, maxLive } = round;
  const problems: string[] = [];
  if (multiplexing === 'parallel' && slots !== undefined) {
    problems.push(
      'round.slots: multiplexing parallel lets all stream at once; leave slots out, or choose ' +
        'round-robin or finish-together',
    );
  }
  if (slots !== undefined && slots > members.length) {
    problems.push(`round.slots: ${slots} of ${members.length} members cannot stream at once`);
  }
  if (multiplexing !== 'parallel' && dirtyShare !== undefined) {
    problems.push(
      `round.dirtyShare: only multiplexing parallel uses it, not ${multiplexing}; leave it out`,
    );
  }
  if (slot !== undefined && slot > maxLive) {
    problems.push('round.slot: is longer than round.maxLive; the first slot would be the only one');
  }
  return problems;
}

/** Finds captures that would never be tried. */
function captureProblems({ capture, cut, disks }: ClusterFile['round']): string[] {
  const problems: string[] = [];
  if (disks === 'snapshot' && cut === 'frames-held') {
    problems.push(
      'round.disks: snapshot needs all VMs stopped at the cut, and cut: frames-held lets them ' +
        'run; set cut to auto or all-stopped',
    );
  }
  if (typeof capture === 'string') return problems;
  const last = capture.indexOf('stop-copy');
  for (const [index, mode] of capture.entries()) {
    const at = `round.capture[${index}]`;
    if (capture.indexOf(mode) < index) {
      problems.push(`${at}: ${mode} is listed already; remove one of the two`);
    } else if (last >= 0 && index > last) {
      problems.push(`${at}: never tried, for stop-copy always works; list ${mode} before it`);
    }
  }
  return problems;
}

/** Finds conditions that can never be the first to hold: their author meant something else. */
function endWhenProblems({ endWhen, stopDeadline, maxLive }: ClusterFile['round']): string[] {
  const problems: string[] = [];
  const first = (kind: string) => endWhen.find((one) => one.kind === kind);
  const earlier = first('any-first-pass') ?? first('all-first-pass');
  for (const [index, condition] of endWhen.entries()) {
    const at = `round.endWhen[${index}]`;
    const { kind } = condition;
    if (endWhen.findIndex((one) => one.kind === kind) < index) {
      problems.push(`${at}: ${kind} is listed already; remove one of the two`);
    } else if (earlier !== undefined && condition !== earlier) {
      problems.push(`${at}: ${kind} never holds before ${earlier.kind}; remove one of the two`);
    }
    if (condition.kind === 'predicted-downtime' && condition.ms >= stopDeadline) {
      problems.push(
        `${at}: a downtime of ${condition.ms} ms breaks round.stopDeadline (${stopDeadline} ms)`,
      );
    }
  }
  if (maxLive < SLOT_MS_MIN) problems.push(`round.maxLive: must be at least ${SLOT_MS_MIN}ms`);
  return problems;
}

function storeProblems({ store, round, members }: ClusterFile): string[] {
  const problems: string[] = [];
  if (store.whenFull === 'refuse' && store.queueLimit !== undefined) {
    problems.push(
      'store.queueLimit: nothing is queued unless store.whenFull is queue; set that, or leave it ' +
        'out',
    );
  }
  const needed = round.inFlight * members.length;
  if (store.budget !== undefined && store.budget < needed) {
    problems.push(
      `store.budget: ${store.budget} bytes are less than in-flight alone (${needed}); ` +
        'raise it, or lower round.inFlight',
    );
  }
  return problems;
}

function persistProblems({ persist }: ClusterFile): string[] {
  if (persist?.mode !== 'background' || persist.timeLimit === undefined) return [];
  return [
    'persist.timeLimit: no round waits for the disk unless mode is before-commit; set that, ' +
      'or leave it out',
  ];
}

function checkpointProblems({ checkpoint }: ClusterFile): string[] {
  if (checkpoint === undefined) return [];
  if (checkpoint.every === 'optimal') {
    return checkpoint.mtbf === undefined
      ? ['checkpoint.mtbf: every: optimal needs it; give it, as "mtbf: 24h"']
      : [];
  }
  return (['mtbf', 'liveSlowdown'] as const).flatMap((option) =>
    checkpoint[option] === undefined
      ? []
      : [`checkpoint.${option}: has no effect on a fixed period; use every: optimal`],
  );
}
