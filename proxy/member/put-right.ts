/**
 * Puts a VM back as a round found it: no migration of ours, running if we (or QEMU, on its way to
 * switch over) stopped it, and its migration settings restored. One routine for an abort and for a
 * rescue by another process; the journal says what there is to do.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient, QmpError } from '../../qmp/index.ts';
import { releaseFrames } from './frame-hold.ts';
import type { Journal, JournalEntry } from './journal.ts';
import { cancelMigration, isSwitchover, makeRun, restoreMigration } from './qemu.ts';

const ATTEMPT_MS = 5_000;
const RETRY_MS = 250;

/**
 * Tries until it is done or the VM is gone. Nothing is done without a journal.
 * @param limitMs gives up after this long, with the last error; the journal stays
 * @param connected a connection to use while it lasts; the monitor serves one client at a time
 * @returns true if there was something to put right
 */
export async function putRight(
  socketPath: string,
  journal: Journal,
  limitMs: number,
  connected?: QmpClient,
): Promise<boolean> {
  const entry = journal.read();
  if (entry === undefined) return false;
  for (const end = performance.now() + limitMs; ; ) {
    try {
      await attempt(socketPath, entry, connected?.isOpen === true ? connected : undefined);
      break;
    } catch (error) {
      if (error instanceof QmpError && error.code === 'E_QMP_CONNECT') break; // the VM is gone
      if (performance.now() > end) throw error;
      await delay(RETRY_MS);
    }
  }
  journal.remove();
  return true;
}

async function attempt(
  socketPath: string,
  entry: JournalEntry,
  connected: QmpClient | undefined,
): Promise<void> {
  const qmp = connected ?? (await QmpClient.connect(socketPath, { timeoutMs: ATTEMPT_MS }));
  try {
    const { status: before } = await qmp.execute('query-status');
    await cancelMigration(qmp, ATTEMPT_MS);
    const { status } = await qmp.execute('query-status');
    if (entry.stopping || isSwitchover(before) || isSwitchover(status)) {
      await makeRun(qmp, ATTEMPT_MS);
    }
    await releaseFrames(qmp, entry.held);
    await restoreMigration(qmp, entry.saved);
  } finally {
    if (connected === undefined) qmp.close();
  }
}
