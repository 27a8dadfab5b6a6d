/**
 * Ends a background snapshot that is not wanted any more, and leaves its VM fit for the next.
 *
 *     a process reads the stream    it is read to its end and dropped: QEMU cleans up itself
 *     none does, or it is slow      it is cancelled; QEMU before 8.1 then leaves the VM's memory
 *                                   write-protected (write-protection.ts), and believes so when
 *                                   the protection was lifted. Every other migration fails, for it
 *                                   asks a descriptor that is gone (ram_save_release_protection,
 *                                   ram.c), until a snapshot is whole. So QEMU is given one whose
 *                                   stream is dropped.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { QmpClient } from '../../../qmp/index.ts';
import { memberFile } from '../../host/folders.ts';
import { MigrationListener } from '../../intake/migration-listener.ts';
import { ramBlocks } from '../qemu/memory.ts';
import { awaitMigrationEnd, cancelMigration, isMigrating } from '../qemu/migration.ts';
import type { JournalEntry } from './journal.ts';
import { keepLifting, liftWriteProtection } from './write-protection.ts';

/** The longest a stream is read, milliseconds. QEMU saves a GiB a second even when busy. */
const READ_LIMIT_MS = 20_000;
/** QEMU takes a moment to notice that it has sent everything. */
const SETTLE_MS = 1_000;
const SETTLE_POLL_MS = 5;
/** The slowest that a QEMU saves which does not wait for a reader; slower, it has stopped. */
const SLOWEST_BYTES_PER_SECOND = 100 * 1024 ** 2;
const WHOLE_LIMIT_MS = 60_000;

/** A snapshot that is under way, as the journal names it. */
export type Snapshot = NonNullable<JournalEntry['snapshot']>;

/** Returns true if QEMU cleans up a broken-off snapshot (its commit 3a8b81f2e6, in 8.1). */
export function cleansUp({ version: { major, minor } }: Pick<QmpClient, 'version'>): boolean {
  return major > 8 || (major === 8 && minor >= 1);
}

/**
 * Ends a snapshot whose VM runs already.
 * @param streamEnded settles when the stream has been read to its end, if there is one to read
 */
export async function endSnapshot(
  qmp: QmpClient,
  { vm }: Snapshot,
  deadlineMs: number,
  streamEnded?: Promise<void>,
): Promise<void> {
  if (streamEnded !== undefined && (await readOut(qmp, streamEnded))) return;
  // The snapshot is broken off now, and the monitor itself may wait for a page.
  const stopLifting = cleansUp(qmp) ? () => {} : keepLifting(vm);
  try {
    await cancelMigration(qmp, deadlineMs);
  } finally {
    stopLifting();
  }
}

/** Waits for the snapshot's own end. @returns false if it does not come */
async function readOut(qmp: QmpClient, streamEnded: Promise<void>): Promise<boolean> {
  if (!(await isMigrating(qmp))) return true; // it never began
  await Promise.race([streamEnded, delay(READ_LIMIT_MS, undefined, { ref: false })]);
  for (const end = performance.now() + SETTLE_MS; performance.now() < end; ) {
    if (!(await isMigrating(qmp))) return true;
    await delay(SETTLE_POLL_MS);
  }
  return false;
}

/** Repairs what QEMU leaves of a snapshot that has ended before it was whole. */
export async function repairAfterSnapshot(
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
      socket.on('error', () => {}); // QEMU reports what became of its migration
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

/** Returns how long a whole snapshot may take. Cut off, it would have to begin again, for ever. */
async function wholeLimitMs(qmp: QmpClient): Promise<number> {
  const bytes = (await ramBlocks(qmp)).reduce((sum, { length }) => sum + length, 0);
  return Math.max(WHOLE_LIMIT_MS, (bytes / SLOWEST_BYTES_PER_SECOND) * 1000);
}
