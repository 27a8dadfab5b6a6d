/** Sets QEMU's migration up for a round, and puts the operator's settings back after it. */
import type { CapabilityState, QmpClient } from '../../../qmp/index.ts';

/** QEMU's own limit for max-bandwidth is the largest int64; this is "do not throttle". */
const FULL_SPEED_BYTES_PER_SECOND = 2 ** 50;
/**
 * QEMU switches over by itself when what is left fits bandwidth × downtime-limit. A millisecond,
 * the least QEMU takes, leaves that decision to the coordinator for all but idle VMs. (Zero means
 * "at once".)
 */
const DOWNTIME_LIMIT_MS = 1;
/**
 * Less than a byte in QEMU's window of 100 ms: one pass a window (migration_rate_limit,
 * migration.c). Below ten it would round to zero, which means no limit.
 */
const TRICKLE_BYTES_PER_SECOND = 10;
/**
 * QEMU looks for newly dirtied pages when less than bandwidth × downtime-limit is left. That is
 * less than a page: all has been sent then, and every page it finds is new to it (why that matters
 * to an emulator: ../capture/precopy-support.ts). A QEMU that trickles has next to no bandwidth. It
 * would never look, but for a bandwidth it is told (QEMU 8.2).
 */
const SWITCHOVER_BYTES_PER_SECOND = 2_000_000;
/**
 * Parameters as a round needs them. Those that are text or a choice change the stream, or what QEMU
 * expects of its peer: with credentials left set, QEMU would wait for the proxy to shake hands, in
 * its main thread, and the monitor with it.
 */
const PARAMETERS: Readonly<Record<string, number | string>> = {
  'max-bandwidth': FULL_SPEED_BYTES_PER_SECOND,
  'downtime-limit': DOWNTIME_LIMIT_MS,
  'avail-switchover-bandwidth': SWITCHOVER_BYTES_PER_SECOND,
  'tls-creds': '',
  'tls-hostname': '',
  'tls-authz': '',
  mode: 'normal',
  'zero-page-detection': 'legacy',
};

/**
 * Capabilities that a round needs. All others are switched off, also those that a later QEMU will
 * have: what another migration of the VM was given has no place in Umbra's.
 */
const CAPABILITIES: ReadonlySet<string> = new Set(['events', 'return-path', 'switchover-ack']);

/** The same for a background snapshot. QEMU refuses it with most others (migration/options.c). */
const BACKGROUND_CAPABILITIES: ReadonlySet<string> = new Set(['events', 'background-snapshot']);

/** Migration settings as the operator had them, to be put back after the round. */
export interface SavedSettings {
  readonly capabilities: readonly CapabilityState[];
  readonly parameters: Readonly<Record<string, unknown>>;
}

export interface MigrationPlan {
  /** Settings as they are, for those that will change. */
  readonly saved: SavedSettings;
  readonly capabilities: readonly CapabilityState[];
  readonly parameters: Readonly<Record<string, number | string>>;
  /** QEMU looks for dirty pages even when it is slowed by `trickle` (since 8.2). */
  readonly canTrickle: boolean;
}

/** Returns the settings a round must change. Changes nothing. */
export async function planMigration(qmp: QmpClient, background = false): Promise<MigrationPlan> {
  const present = await qmp.execute('query-migrate-capabilities');
  const capabilities = background ? BACKGROUND_CAPABILITIES : CAPABILITIES;
  const changed = present.filter(({ capability, state }) => {
    return capabilities.has(capability) !== state;
  });
  const before = await qmp.execute('query-migrate-parameters');
  const known = Object.entries(PARAMETERS).filter(([key, value]) => {
    // A number changes in the round, too (trickle). Text that is as it should be is not touched.
    return key in before && (typeof value === 'number' || before[key] !== value);
  });
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

/** Applies a plan. */
export async function applyMigration(qmp: QmpClient, plan: MigrationPlan): Promise<void> {
  const { parameters } = plan;
  const capabilities = [...plan.capabilities];
  if (capabilities.length > 0) await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', parameters);
}

/**
 * Slows a migration that has next to nothing to send to one pass in 100 ms, or sets it to full
 * speed. Not reading its stream would not do: the socket's buffer takes thousands of empty passes.
 */
export async function trickle(qmp: QmpClient, slow: boolean): Promise<void> {
  const rate = slow ? TRICKLE_BYTES_PER_SECOND : FULL_SPEED_BYTES_PER_SECOND;
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': rate });
}

/** Puts the operator's settings back. */
export async function restoreMigration(qmp: QmpClient, saved: SavedSettings): Promise<void> {
  const capabilities = [...saved.capabilities];
  if (capabilities.length > 0) await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-set-parameters', saved.parameters);
}

/** Returns true if QEMU stays in precopy, its VM running, until the peer lets it switch over. */
export async function hasSwitchoverAck(qmp: QmpClient): Promise<boolean> {
  const capabilities = await qmp.execute('query-migrate-capabilities');
  return capabilities.some(({ capability, state }) => capability === 'switchover-ack' && state);
}
