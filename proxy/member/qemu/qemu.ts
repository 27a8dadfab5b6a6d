/** What a member asks of its QEMU over QMP, beyond single commands. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CapabilityState, MigrationStatus, QmpClient, RunState } from '../../../qmp/index.ts';
import { QmpError } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

/** QEMU's own limit for max-bandwidth is the largest int64; this is "do not throttle". */
const FULL_SPEED_BYTES_PER_SECOND = 2 ** 50;
/**
 * QEMU switches over by itself when what is left fits bandwidth × downtime-limit. A millisecond, the
 * least it takes, leaves that decision to the coordinator for all but idle VMs. (Zero means "at once".)
 */
const DOWNTIME_LIMIT_MS = 1;
/**
 * Less than a byte in QEMU's window of 100 ms: one pass a window (migration_rate_limit, migration.c).
 * Below ten it would round to zero, which means no limit.
 */
const TRICKLE_BYTES_PER_SECOND = 10;
/**
 * QEMU looks for newly dirtied pages when less than bandwidth × downtime-limit is left. That is less than a
 * page: all has been sent then, and every page it finds is new to it (why that matters to an emulator is told in
 * dirty-log.ts). A member that trickles has no bandwidth to speak of: without being told one (QEMU 8.2) it
 * would never look.
 */
const SWITCHOVER_BYTES_PER_SECOND = 2_000_000;
const PARAMETERS: Readonly<Record<string, number>> = {
  'max-bandwidth': FULL_SPEED_BYTES_PER_SECOND,
  'downtime-limit': DOWNTIME_LIMIT_MS,
  'avail-switchover-bandwidth': SWITCHOVER_BYTES_PER_SECOND,
};
const RETRY_MS = 2;

const BUSY: ReadonlySet<MigrationStatus> = new Set<MigrationStatus>([
  'setup',
  'active',
  'cancelling',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover',
  'colo',
  'pre-switchover',
  'device',
  'wait-unplug',
]);

/** What a round needs, whatever the operator had set. Others are left as they are. */
const CAPABILITIES: Readonly<Record<string, boolean>> = {
  events: true,
  'return-path': true,
  'switchover-ack': true,
  'background-snapshot': false,
  'dirty-bitmaps': false,
  'mapped-ram': false,
  multifd: false,
  'pause-before-switchover': false,
  'postcopy-ram': false,
  'rdma-pin-all': false,
  'x-colo': false,
  'x-ignore-shared': false,
  'zero-copy-send': false,
};

/** For a background snapshot: QEMU refuses it together with most others (migration/options.c). */
const BACKGROUND_CAPABILITIES: Readonly<Record<string, boolean>> = {
  ...CAPABILITIES,
  'background-snapshot': true,
  'return-path': false,
  'switchover-ack': false,
  'auto-converge': false,
  compress: false,
  'late-block-activate': false,
  'postcopy-blocktime': false,
  'release-ram': false,
  'validate-uuid': false,
  xbzrle: false,
};

export interface RamBlockInfo {
  readonly idstr: string;
  /** Bytes in use, which is what the stream carries. */
  readonly length: number;
  /** Where it is in QEMU's memory; since QEMU 8.0. */
  readonly address?: bigint;
}

/**
 * Refuses a VM that cannot be checkpointed now.
 * @throws UmbraError E_VM_MIGRATING, E_VM_BLOCKED, E_VM_NOT_RUNNING, E_QEMU_UNSUPPORTED
 */
export async function requireReady(qmp: QmpClient): Promise<void> {
  const { major, minor } = qmp.version;
  if (major < 7 || (major === 7 && minor < 2)) {
    const message = `QEMU ${major}.${minor} is too old: 7.2 is the oldest supported`;
    throw new UmbraError({ code: 'E_QEMU_UNSUPPORTED', message });
  }
  const migration = await qmp.execute('query-migrate');
  if (migration.status !== undefined && BUSY.has(migration.status)) {
    const message = `the VM is already migrating (${migration.status})`;
    throw new UmbraError({ code: 'E_VM_MIGRATING', message });
  }
  const reasons = migration['blocked-reasons'] ?? [];
  if (reasons.length > 0) {
    const message = `QEMU cannot migrate this VM: ${reasons.join('; ')}`;
    throw new UmbraError({ code: 'E_VM_BLOCKED', message });
  }
  const { running, status } = await qmp.execute('query-status');
  if (!running) {
    throw new UmbraError({ code: 'E_VM_NOT_RUNNING', message: `the VM is ${status}, not running` });
  }
}

/** Has the VM a device that gives back memory its guest does not use? */
export async function hasBalloon(qmp: QmpClient): Promise<boolean> {
  try {
    await qmp.execute('query-balloon');
    return true;
  } catch (error) {
    if (!(error instanceof QmpError) || error.code !== 'E_QMP_COMMAND') throw error;
    // Else there is one, of which QEMU will not tell how large it is.
    return error.qemuClass !== 'DeviceNotActive';
  }
}

/** @param limitMs QEMU writes to its disks what is still to be written there, before it answers */
export async function stopVm(qmp: QmpClient, limitMs: number): Promise<void> {
  await qmp.execute('stop', undefined, { timeoutMs: limitMs });
}

/** RAM blocks as QEMU lists them, those included that it may not migrate. */
export async function ramBlocks(qmp: QmpClient): Promise<RamBlockInfo[]> {
  const answer = await qmp.execute('x-query-ramblock');
  return parseRamBlocks(answer['human-readable-text']);
}

/**
 * Reads the table of ram_block_format (softmmu/physmem.c, system/physmem.c):
 *
 *     Block Name    PSize              Offset               Used              Total  [HVA  RO]
 *         pc.ram    4 KiB  0x0000000000000000 0x0000000020000000 0x0000000020000000
 *
 * @throws UmbraError E_QEMU_UNSUPPORTED when no line can be read
 */
export function parseRamBlocks(table: string): RamBlockInfo[] {
  const row =
    /^\s*(\S.*?)\s+\d+ [KMG]?i?B\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x[0-9a-f]+(?:\s+(0x[0-9a-f]+))?/;
  const blocks = table.split('\n').flatMap((line) => {
    const match = row.exec(line);
    if (match === null) return [];
    const [, idstr = '', length = '', address] = match;
    const where = address === undefined ? {} : { address: BigInt(address) };
    return [{ idstr, length: Number.parseInt(length, 16), ...where }];
  });
  if (blocks.length === 0) {
    const message = 'QEMU lists no RAM blocks that can be read (x-query-ramblock)';
    throw new UmbraError({ code: 'E_QEMU_UNSUPPORTED', message });
  }
  return blocks;
}

/** Migration settings as they were, to be put back after the round. */
export interface SavedSettings {
  readonly capabilities: readonly CapabilityState[];
  readonly parameters: Readonly<Record<string, unknown>>;
}

export interface MigrationPlan {
  /** Settings as they are, for those that will change. */
  readonly saved: SavedSettings;
  readonly capabilities: readonly CapabilityState[];
  readonly parameters: Readonly<Record<string, number>>;
  /** QEMU can be slowed to a few passes a second (`trickle`). */
  readonly canTrickle: boolean;
}

/** Finds out what a round must change. Changes nothing. */
export async function planMigration(qmp: QmpClient, background = false): Promise<MigrationPlan> {
  const present = await qmp.execute('query-migrate-capabilities');
  const capabilities = background ? BACKGROUND_CAPABILITIES : CAPABILITIES;
  const changed = present.filter(({ capability, state }) => {
    const wanted = capabilities[capability];
    return wanted !== undefined && wanted !== state;
  });
  const before = await qmp.execute('query-migrate-parameters');
  const known = Object.entries(PARAMETERS).filter(([key]) => key in before);
  const saved = {
    capabilities: changed,
    parameters: Object.fromEntries(known.map(([key]) => [key, before[key]])),
  };
  return {
    saved,
    capabilities: changed.map(({ capability, state }) => ({ capability, state: !state })),
    parameters: Object.fromEntries(known),
    canTrickle: 'avail-switchover-bandwidth' in before,
  };
}

/** Sets what a plan says. */
export async function applyMigration(qmp: QmpClient, plan: MigrationPlan): Promise<void> {
  const { parameters } = plan;
  const capabilities = [...plan.capabilities];
  if (capabilities.length > 0) await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', parameters);
}

/**
 * Slows a migration that has next to nothing to send to one pass in 100 ms, or lets it go again. Not
 * reading its stream would not do: thousands of empty passes a second fit the socket's buffer.
 */
export async function trickle(qmp: QmpClient, slow: boolean): Promise<void> {
  const rate = slow ? TRICKLE_BYTES_PER_SECOND : FULL_SPEED_BYTES_PER_SECOND;
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': rate });
}

export async function restoreMigration(qmp: QmpClient, saved: SavedSettings): Promise<void> {
  const capabilities = [...saved.capabilities];
  if (capabilities.length > 0) await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', saved.parameters);
}

/** With switchover-ack, QEMU stays in precopy, VM running, until the peer lets it go. */
export async function hasSwitchoverAck(qmp: QmpClient): Promise<boolean> {
  const capabilities = await qmp.execute('query-migrate-capabilities');
  return capabilities.some(({ capability, state }) => capability === 'switchover-ack' && state);
}

export async function isMigrating(qmp: QmpClient): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate');
  return status !== undefined && BUSY.has(status);
}

/** Cancels an outgoing migration, if there is one, and waits until QEMU has let go of it. */
export async function cancelMigration(qmp: QmpClient, deadlineMs: number): Promise<void> {
  let cancelled = false;
  for (const end = performance.now() + deadlineMs; performance.now() < end; ) {
    const { status } = await qmp.execute('query-migrate');
    if (status === undefined || !BUSY.has(status)) return;
    if (!cancelled && status !== 'cancelling') {
      await qmp.execute('migrate_cancel');
      cancelled = true;
    }
    await delay(RETRY_MS);
  }
  throw new UmbraError({ code: 'E_QMP_TIMEOUT', message: 'QEMU does not cancel its migration' });
}

/** Waits until QEMU has done with a migration whose stream is whole. @throws UmbraError */
export async function awaitMigrationEnd(qmp: QmpClient, deadlineMs: number): Promise<void> {
  for (const end = performance.now() + deadlineMs; performance.now() < end; await delay(RETRY_MS)) {
    const { status, 'error-desc': why } = await qmp.execute('query-migrate');
    if (status === 'completed') return;
    if (status !== undefined && BUSY.has(status)) continue;
    const message = `QEMU reports its migration ${status}: ${why ?? 'it does not say why'}`;
    throw new UmbraError({ code: 'E_MIGRATION_FAILED', message });
  }
  throw new UmbraError({ code: 'E_QMP_TIMEOUT', message: 'QEMU does not end its migration' });
}

/**
 * Makes a stopped VM run. Right after a migration `cont` may be refused for a moment with
 * "Migration is not finalized yet", so it is tried until the deadline.
 * @throws QmpError what QEMU said last, or UmbraError E_VM_NOT_RUNNING
 */
export async function makeRun(qmp: QmpClient, deadlineMs: number): Promise<void> {
  for (const end = performance.now() + deadlineMs; ; ) {
    const { running, status } = await qmp.execute('query-status');
    // A guest that suspended itself (ACPI S3) goes on as it was: it is not for us to wake.
    if (running || status === 'suspended') return;
    const late = performance.now() > end;
    try {
      await qmp.execute('cont');
    } catch (error) {
      const refused = error instanceof QmpError && error.code === 'E_QMP_COMMAND';
      if (!refused || late) throw error;
      await delay(RETRY_MS);
    }
    if (!late) continue;
    const message = `the VM does not resume: it is ${status}`;
    throw new UmbraError({ code: 'E_VM_NOT_RUNNING', message });
  }
}

/**
 * Resumes a VM that stands at the barrier. One that runs was resumed by someone: the event of that may
 * still wait in another socket than the barrier came from (a proxy that was frozen reads them in any
 * order), but the answer of the monitor comes after it.
 * @param early what is told of one that runs
 * @throws UmbraError E_RESUMED_EARLY
 */
export async function resumeStanding(
  qmp: QmpClient,
  deadlineMs: number,
  early = 'someone resumed the VM while it stood at the barrier: the cut is lost',
): Promise<void> {
  const { running } = await qmp.execute('query-status');
  if (running) throw new UmbraError({ code: 'E_RESUMED_EARLY', message: early });
  await makeRun(qmp, deadlineMs);
}

/** Stopped by QEMU itself, to complete a migration; anything else is someone's doing. */
export function isSwitchover(status: RunState): boolean {
  return status === 'finish-migrate' || status === 'postmigrate';
}
