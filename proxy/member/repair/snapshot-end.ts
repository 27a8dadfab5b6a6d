import { setTimeout as delay } from 'node:timers/promises';
import type { QmpClient } from '../../../qmp/index.ts';
import { memberFile } from '../../host/folders.ts';
import { MigrationListener } from '../../intake/migration-listener.ts';
import { ramBlocks } from '../qemu/memory.ts';
import { awaitMigrationEnd, cancelMigration, isMigrating } from '../qemu/migration.ts';
import type { JournalEntry } from './journal.ts';
import { keepLifting, liftWriteProtection } from './write-protection.ts';

/** A QEMU saves a gigabyte a second even on a busy machine; who has more is cut short. */
const READ_LIMIT_MS = 20_000;
/** QEMU takes a moment to notice that it has sent everything. */
const SETTLE_MS = 1_000;
const SETTLE_POLL_MS = 5;
/** QEMU that saves less a second than this, with nobody to wait for, has stopped doing so. */
const SLOWEST_BYTES_PER_SECOND = 100 * 1024 ** 2;
const WHOLE_LIMIT_MS = 60_000;

/** What a snapshot that is under way is known by. */
export type Snapshot = NonNullable<JournalEntry['snapshot']>;

/** Does QEMU clean up after a snapshot that was broken off? (commit 3a8b81f2e6, in 8.1) */
export function cleansUp({ version: { major, minor } }: Pick<QmpClient, 'version'>): boolean {
  return major > 8 || (major === 8 && minor >= 1);
}

/**
 * The VM runs already.
 * @param streamEnded settles when the stream has been read to its end, if there is one to read
 */
export async function endSnapshot(
  qmp: QmpClient,
  { vm }: Snapshot,
  deadlineMs: number,
  streamEnded?: Promise<void>,
): Promise<void> {
  if (streamEnded !== undefined && (await readOut(qmp, streamEnded))) return;
  // From here on it is broken off, and the monitor itself may wait for a page.
  const stopLifting = cleansUp(qmp) ? () => {} : keepLifting(vm);
  try {
    await cancelMigration(qmp, deadlineMs);
  } finally {
    stopLifting();
  }
}

/** @returns true if it has come to its own end */
async function readOut(qmp: QmpClient, streamEnded: Promise<void>): Promise<boolean> {
  if (!(await isMigrating(qmp))) return true; // it never began
  await Promise.race([streamEnded, delay(READ_LIMIT_MS, undefined, { ref: false })]);
  for (const end = performance.now() + SETTLE_MS; performance.now() < end; ) {
    if (!(await isMigrating(qmp))) return true;
    await delay(SETTLE_POLL_MS);
  }
  return false;
}

/** The snapshot is over. If it is not whole, what QEMU leaves is put right. */
export async function mendAfterSnapshot(
  qmp: QmpClient,
  { vm }: Snapshot,
  directory: string,
): Promise<void> {
  const { status } = await qmp.execute('query-migrate');
  if (status === 'completed' || cleansUp(qmp)) return;
  liftWriteProtection(vm);
  await snapshotIntoNothing(qmp, directory);
}

async function snapshotIntoNothing(qmp: QmpClient, directory: string): Promise<void> {
  const limitMs = await wholeLimitMs(qmp);
  const capabilities = [{ capability: 'background-snapshot', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
  const listener = await MigrationListener.open(memberFile(directory, 'migration'), {
    onStream: (socket) => {
      socket.on('error', () => {}); // QEMU tells what became of its migration
      socket.on('end', () => socket.end());
      socket.resume();
    },
    onBytes: () => {},
  });
  try {
    await qmp.execute('migrate', { uri: `unix:${listener.path}` });
    await awaitMigrationEnd(qmp, limitMs);
  } finally {
    listener.close();
  }
}

/** Cut off by us, it would have to begin anew, for ever. */
async function wholeLimitMs(qmp: QmpClient): Promise<number> {
  const bytes = (await ramBlocks(qmp)).reduce((sum, { length }) => sum + length, 0);
  return Math.max(WHOLE_LIMIT_MS, (bytes / SLOWEST_BYTES_PER_SECOND) * 1000);
}
