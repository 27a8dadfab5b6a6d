/** Reports as text. */

import type { EpochDetail, EpochInfo } from '../../proxy/protocol/epoch.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { age, bytes, duration, failureText, table } from './output.ts';

const PAGE_BYTES = 4096;

export function roundText(report: RoundReport): string {
  const members = table(
    [
      'MEMBER',
      'DOWNTIME',
      'PREDICTED',
      'STOP SKEW',
      'LIVE PHASE',
      'HELD',
      'PASSES',
      'LIVE',
      'RESENT',
      'DRAIN',
      'STORED',
      'SEAL',
    ],
    report.members.map((member) => [
      member.member,
      duration(member.downtimeMs),
      duration(member.predictedDowntimeMs),
      duration(member.stopSkewMs),
      duration(member.liveMs),
      duration(member.heldMs),
      String(member.passes ?? '-'),
      bytes(member.liveBytes),
      bytes(member.repeatedPages === undefined ? undefined : member.repeatedPages * PAGE_BYTES),
      bytes(member.drainBytes),
      bytes(member.storedBytes) + (member.stored === 'delta' ? ' more' : ''),
      duration(member.sealMs),
    ]),
  );
  if (report.failure !== undefined) {
    const end = `round ${report.round} aborted; every VM that is left runs`;
    return `${failureText(report.failure)}\n${end}`;
  }
  return [
    `epoch ${report.epoch} committed in ${duration(report.durationMs)}`,
    `  cluster downtime ${duration(report.clusterDowntimeMs)} (first stop to last resume), ` +
      `stop skew ${duration(report.skewMs)}` +
      (report.predictedDowntimeMs === undefined
        ? ''
        : `; predicted ${duration(report.predictedDowntimeMs)}`),
    `  ${bytes(report.liveBytes)} streamed live, ` +
      `${bytes(report.drainBytes)} after the stop; ${bytes(report.storedBytes)} kept in memory`,
    `  live phase ended by ${report.endReason}`,
    ...captureNotes(report),
    ...missedNotes(report),
    ...savingNotes(report),
    ...diskNotes(report),
    ...proofNotes(report),
    ...report.members.flatMap(({ member, note }) => (note ? [`  ${member}: ${note}`] : [])),
    '',
    members,
  ].join('\n');
}

/** Warns of disks: RAM goes back in time with an epoch, disks only if they were snapshotted. */
function diskNotes({ members }: RoundReport): string[] {
  return members.flatMap(({ member, writableDisks, disks }) => {
    if (writableDisks === undefined) return [];
    const names = writableDisks.join(', ');
    return disks === undefined
      ? [`  WARNING ${member}: not in the epoch, but writable: ${names}`]
      : [`  ${member}: snapshotted: ${names}`];
  });
}

/** Tells which members' epochs were loaded to prove them, and which could not be. */
function proofNotes({ proof = [] }: RoundReport): string[] {
  return proof.map(({ member, mode, proofMs, reason, notProven }) => {
    if (mode === undefined) return `  ${member} is not proven: ${notProven}`;
    const why = reason === undefined ? '' : ` (${reason})`;
    return `  ${member} was loaded by ${mode} in ${duration(proofMs)}${why}`;
  });
}

/** Tells why members were not captured as preferred; members with one reason share a line. */
function captureNotes({ members }: RoundReport): string[] {
  const reasons = new Map<string, string[]>();
  for (const { member, capture, captureReason } of members) {
    if (captureReason === undefined) continue;
    const how = `by ${capture}: ${captureReason}`;
    reasons.set(how, [...(reasons.get(how) ?? []), member]);
  }
  return [...reasons].map(([how, names]) => `  ${names.join(', ')} ${how}`);
}

/** Tells which dirtied pages of emulated VMs QEMU had missed. */
function missedNotes({ members }: RoundReport): string[] {
  return members.flatMap(({ member, missedPages = 0 }) => {
    if (missedPages === 0) return [];
    return [
      `  ${member}: QEMU had missed ${missedPages} dirtied pages (no KVM), taken from its memory`,
    ];
  });
}

/** Tells what a background capture has cost guests after they were resumed. */
function savingNotes({ members }: RoundReport): string[] {
  return members.flatMap(({ member, savingMs, silentMs, waitedShare, cut }) => {
    if (savingMs === undefined) return [];
    const silent =
      silentMs === undefined ? '' : `, what it sent was held for ${duration(silentMs)}`;
    const waited =
      waitedShare === undefined
        ? ''
        : `, its vCPUs waiting for pages ${(waitedShare * 100).toFixed(1)} % of that`;
    const how = `in the background (${cut}${silent})`;
    return [`  ${member} ${how}: saved in ${duration(savingMs)} while it ran${waited}`];
  });
}

export function restoreText(report: RestoreReport): string {
  const members = table(
    ['MEMBER', 'MODE', 'LOADED IN', 'SENT', 'NOTE'],
    report.members.map(({ member, mode, loadMs, bytes: sent, reason, note }) => {
      const words = [reason, note].filter((one) => one !== undefined).join('; ');
      return [member, mode, duration(loadMs), bytes(sent), words];
    }),
  );
  const killed = report.killed.length === 0 ? '' : ` (killed first: ${report.killed.join(', ')})`;
  return [
    `epoch ${report.epoch} runs again after ${duration(report.durationMs)}${killed}`,
    ...(report.fetchMs === undefined ? [] : [`  fetched from disk in ${duration(report.fetchMs)}`]),
    `  verify ${duration(report.verifyMs)}, load ${duration(report.loadMs)}, ` +
      `resume skew ${duration(report.skewMs)}`,
    ...clockLines(report),
    '',
    members,
  ].join('\n');
}

/** Tells how far the guests' clocks are behind, and of each that should have been set, why not. */
function clockLines({ members, clockSpreadMs }: RestoreReport): string[] {
  const lags = members.flatMap(({ clockLagMs }) => clockLagMs ?? []);
  const known = lags.length === 0 ? 'behind by an unknown time' : lagText(Math.max(...lags));
  const caughtUp = members.filter(({ clock }) => clock === 'caught-up');
  const failures = members.flatMap(({ clockFailure }) => clockFailure ?? []);
  if (caughtUp.length + failures.length === 0) {
    return [`  clocks of the guests: ${known} (kept; --clock catch-up has guest agents set them)`];
  }
  const offMs = Math.max(0, ...caughtUp.map(({ clockOffMs = 0 }) => Math.abs(clockOffMs)));
  const apart = clockSpreadMs === undefined ? '' : `, ${duration(clockSpreadMs)} apart`;
  const set = `${caughtUp.length} of ${members.length} caught up`;
  const now = caughtUp.length === 0 ? set : `${set}, now off by ${duration(offMs)} at most${apart}`;
  return [
    `  clocks of the guests: ${known}; ${now}`,
    ...failures.map(({ member, message, code }) => `    ${member}: ${message} (${code})`),
  ];
}

function lagText(lagMs: number): string {
  return lagMs < 0 ? `${duration(-lagMs)} ahead` : `${duration(lagMs)} behind`;
}

export function statusText(status: ClusterStatus): string {
  const members = table(
    ['MEMBER', 'VM', 'PID', 'QEMU', 'STARTED BY'],
    status.members.map(({ member, status: state, pid, qemuVersion, owned }) => {
      return [member, state, String(pid ?? '-'), qemuVersion || '-', owned ? 'umbra' : 'others'];
    }),
  );
  const busy = status.busy === undefined ? '' : ` · busy: ${status.busy}`;
  const head = `cluster ${status.cluster}${busy}`;
  const notes = [
    ...scheduleLines(status),
    ...persistLines(status.persist),
    ...status.members.flatMap(({ member, note }) => (note ? [`${member}: ${note}`] : [])),
  ];
  return [head, ...notes, '', members, '', epochsText(status.epochs)].join('\n');
}

function scheduleLines({ schedule, queued }: ClusterStatus): string[] {
  if (queued !== undefined) return [`a checkpoint waits: ${queued.message}`];
  if (schedule === undefined) return [];
  const next = `next checkpoint at ${schedule.nextAt ?? '-'} (${schedule.reason})`;
  return schedule.failure === undefined
    ? [next]
    : [next, `the last one was not taken: ${schedule.failure.message}`];
}

const NO_EPOCHS = 'no epochs yet; take one: umbra checkpoint';

function persistLines(persist: ClusterStatus['persist']): string[] {
  if (persist === undefined) return [];
  const { directory, doubt, failure, persisting, retryAt } = persist;
  const lines = doubt === undefined ? [] : [`WARNING persist.to (${directory}): ${doubt}`];
  if (persisting !== undefined) {
    lines.push(`epoch ${persisting.epoch} is being brought to disk: ${percent(persisting.share)}`);
  }
  if (failure === undefined) return lines;
  const { code, message, hint } = failure;
  lines.push(`WARNING not brought to disk (${code}): ${message}`);
  if (hint !== undefined) lines.push(`  next: ${hint}`);
  if (retryAt !== undefined) lines.push(`  tried again at ${retryAt}`);
  return lines;
}

function whereText({
  inMemory,
  onDisk,
  persisting,
}: Pick<EpochInfo, 'inMemory' | 'onDisk' | 'persisting'>): string {
  if (persisting !== undefined) return `ram, persisting ${percent(persisting)}`;
  return [...(inMemory ? ['ram'] : []), ...(onDisk ? ['disk'] : [])].join(' + ') || 'disk';
}

function percent(share: number): string {
  return `${Math.floor(share * 100)} %`;
}

function epochsText(epochs: readonly EpochInfo[]): string {
  if (epochs.length === 0) return NO_EPOCHS;
  return table(
    ['EPOCH', 'CREATED', 'MEMBERS', 'PINNED', 'WHERE', 'STATE'],
    epochs.map((epoch) => [...epochCells(epoch), stateOf(epoch)]),
  );
}

/**
 * Lists epochs. OWN is the memory that removing the epoch alone would free; SHARED is needed by
 * other epochs, too.
 */
export function epochDetailsText(epochs: readonly EpochDetail[]): string {
  if (epochs.length === 0) return NO_EPOCHS;
  return table(
    ['EPOCH', 'CREATED', 'MEMBERS', 'PINNED', 'WHERE', 'AGE', 'OWN', 'SHARED', 'STATE'],
    epochs.map((epoch) => [
      ...epochCells(epoch),
      epoch.ageMs === undefined ? '-' : age(epoch.ageMs),
      bytes(epoch.space?.ownBytes),
      bytes(epoch.space?.sharedBytes),
      stateOf(epoch),
    ]),
  );
}

function epochCells(info: EpochInfo): string[] {
  const { epoch, createdAt, members, pinned, failure } = info;
  const count = failure === undefined ? String(members) : '-';
  return [String(epoch), createdAt ?? '-', count, pinned ? 'yes' : '', whereText(info)];
}

function stateOf({ failure }: EpochInfo): string {
  return failure === undefined ? 'whole' : failure.code;
}
