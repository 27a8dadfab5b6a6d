/** What is wrong with settings that are each right by themselves. PURE. */
import { type ClusterFile, SLOT_MIN_MS } from './schema.ts';

/**
 * Settings that cannot both be meant. What is given and has no effect is a misunderstanding, too.
 * @returns each problem, by its path in the file
 */
export function contradictions({
  round,
  store,
  checkpoint,
  members,
  persist,
}: ClusterFile): string[] {
  const problems: string[] = [];
  const { multiplexing, slots, dirtyShare } = round;
  if (multiplexing === 'parallel' && slots !== undefined) {
    problems.push('round.slots: multiplexing parallel lets all stream; choose round-robin, say');
  }
  if (slots !== undefined && slots > members.length) {
    problems.push(`round.slots: ${slots} of ${members.length} members cannot stream at once`);
  }
  if (multiplexing !== 'parallel' && dirtyShare !== undefined) {
    problems.push(`round.dirtyShare: only multiplexing parallel shares slots, not ${multiplexing}`);
  }
  if (round.disks === 'snapshot' && round.cut === 'frames-held') {
    problems.push('round.disks: snapshot needs VMs that stand; with cut: frames-held they run on');
  }
  problems.push(...captureProblems(round), ...endWhenProblems(round));
  if (store.whenFull === 'refuse' && store.queueLimit !== undefined) {
    problems.push('store.queueLimit: nothing is queued unless store.whenFull is queue');
  }
  if (store.budget !== undefined && store.budget < round.inFlight * members.length) {
    const needed = round.inFlight * members.length;
    problems.push(`store.budget: ${store.budget} bytes are less than in-flight alone (${needed})`);
  }
  if (persist?.mode === 'background' && persist.timeLimit !== undefined) {
    problems.push('persist.timeLimit: no round waits for the disk unless mode is before-commit');
  }
  if (checkpoint?.every === 'optimal' && checkpoint.mtbf === undefined) {
    problems.push('checkpoint.mtbf: every: optimal needs it, as "mtbf: 24h"');
  }
  for (const option of ['mtbf', 'liveSlowdown'] as const) {
    if (checkpoint === undefined || checkpoint.every === 'optimal') break;
    if (checkpoint[option] === undefined) continue;
    problems.push(`checkpoint.${option}: has no effect on a fixed period; use every: optimal`);
  }
  return problems;
}

/** What comes after one that always works is never tried. */
function captureProblems({ capture }: ClusterFile['round']): string[] {
  if (typeof capture === 'string') return [];
  const last = capture.indexOf('stop-copy');
  return capture.flatMap((mode, index) => {
    const at = `round.capture[${index}]`;
    if (capture.indexOf(mode) < index) return [`${at}: ${mode} is there already`];
    return last >= 0 && index > last ? [`${at}: never tried, for stop-copy always works`] : [];
  });
}

/** A condition that can never be the first to hold is not what its author meant. */
function endWhenProblems({ endWhen, stopDeadline, maxLive, slot }: ClusterFile['round']): string[] {
  const problems: string[] = [];
  const first = (kind: string) => endWhen.find((one) => one.kind === kind);
  const earlier = first('any-first-pass') ?? first('all-first-pass');
  for (const [index, condition] of endWhen.entries()) {
    const at = `round.endWhen[${index}]`;
    const { kind } = condition;
    if (endWhen.findIndex((one) => one.kind === kind) < index) {
      problems.push(`${at}: ${kind} is there already`);
    } else if (earlier !== undefined && condition !== earlier) {
      problems.push(`${at}: ${kind} never holds before ${earlier.kind}, which is listed, too`);
    }
    if (condition.kind !== 'predicted-downtime') continue;
    if (condition.ms >= stopDeadline) {
      problems.push(`${at}: a downtime of ${condition.ms} ms breaks round.stopDeadline`);
    }
  }
  if (slot !== undefined && slot > maxLive) {
    problems.push('round.slot: is longer than round.maxLive, so the first would be the only one');
  }
  if (maxLive < SLOT_MIN_MS) problems.push(`round.maxLive: must be at least ${SLOT_MIN_MS}ms`);
  return problems;
}
