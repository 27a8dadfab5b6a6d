/**
 * Repairs a VM: leaves it as the round found it. The round's migration ends, the VM runs if the
 * round (or QEMU, on its way to switch over) has stopped it, and its migration settings are put
 * back. One routine for an abort and for a repair by another process; the journal says what to do.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient, QmpError } from '../../../qmp/index.ts';
import { isAlive } from '../../host/known-process.ts';
import { releaseFrames } from '../qemu/frame-hold.ts';
import { cancelMigration } from '../qemu/migration.ts';
import { restoreMigration } from '../qemu/migration-settings.ts';
import { isSwitchover, makeRun } from '../qemu/run-state.ts';
import type { Journal, JournalEntry } from './journal.ts';
import { endSnapshot, repairAfterSnapshot } from './snapshot-end.ts';
import { keepLifting } from './write-protection.ts';

const ATTEMPT_MS = 5_000;
const RETRY_MS = 250;

export interface RepairOptions {
  /** A connection to use while it is open: a monitor serves one client at a time. */
  readonly connected?: QmpClient | undefined;
  /** Settles when the stream of a background snapshot has ended, which this process reads. */
  readonly streamEnded?: Promise<void> | undefined;
}

/**
 * Repairs a VM, trying until it is done or the VM is gone. Does nothing without a journal.
 * @param limitMs gives up after this long, with the last error; the journal stays
 * @returns true if there was something to repair
 */
export async function repairVm(
  socketPath: string,
  journal: Journal,
  limitMs: number,
  { connected, streamEnded }: RepairOptions = {},
): Promise<boolean> {
  const entry = journal.read();
  if (entry === undefined) return false;
  const { directory } = journal;
  let reading = streamEnded;
  for (const end = performance.now() + limitMs; ; ) {
    try {
      const usable = connected?.isOpen === true ? connected : undefined;
      await attempt({ socketPath, directory, entry }, usable, reading);
      break;
    } catch (error) {
      if (error instanceof QmpError && error.code === 'E_QMP_CONNECT') break; // the VM is gone
      if (performance.now() > end) throw error;
      reading = undefined;
      await delay(RETRY_MS);
    }
  }
  // A round that has begun since has a journal of its own: without it, its VM could stay stopped.
  if (journal.read()?.round === entry.round) journal.remove();
  return true;
}

interface Task {
  readonly socketPath: string;
  readonly directory: string;
  readonly entry: JournalEntry;
}

async function attempt(
  { socketPath, directory, entry }: Task,
  connected: QmpClient | undefined,
  streamEnded: Promise<void> | undefined,
): Promise<void> {
  const { snapshot, stopping, migrates = true } = entry;
  // No process reads the stream: the monitor itself may wait for a page that QEMU does not save.
  const unread = snapshot !== undefined && streamEnded === undefined && !isRead(snapshot);
  const stopLifting = unread ? keepLifting(snapshot.vm) : () => {};
  let qmp = connected;
  try {
    qmp ??= await QmpClient.connect(socketPath, { timeoutMs: ATTEMPT_MS });
    const { status: before } = await qmp.execute('query-status');
    if (snapshot === undefined && migrates) await cancelMigration(qmp, ATTEMPT_MS);
    const { status } = await qmp.execute('query-status');
    const switched = migrates && (isSwitchover(before) || isSwitchover(status));
    if (stopping || switched) await makeRun(qmp, ATTEMPT_MS);
    await releaseFrames(qmp, entry.held);
    if (snapshot !== undefined) {
      await endSnapshot(qmp, snapshot, ATTEMPT_MS, streamEnded);
      stopLifting(); // it would lift the protection of the next snapshot
      await repairAfterSnapshot(qmp, snapshot, directory);
      if (stopping) await makeRun(qmp, ATTEMPT_MS); // it was cut after all
    }
    if (migrates) await restoreMigration(qmp, entry.saved);
  } finally {
    stopLifting();
    if (connected === undefined) qmp?.close();
  }
}

/** Returns true if another proxy, whose agent has died, reads the stream. */
function isRead({ reader }: NonNullable<JournalEntry['snapshot']>): boolean {
  return reader.pid !== process.pid && isAlive(reader);
}
