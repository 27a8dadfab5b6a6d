/**
 * What stands in the way of a background snapshot of a VM. QEMU is asked by trying, for it depends on
 * kernel, memory backends, devices and capabilities; what it does not check itself is looked for.
 */
import type { QmpClient } from '../../qmp/index.ts';
import type { KnownProcess } from '../known-process.ts';
import { applyMigration, planMigration, restoreMigration } from './qemu.ts';
import { cleansUp } from './snapshot-end.ts';
import { liftingObstacle } from './write-protection.ts';

/** In words, each by itself; none if it can be taken. Leaves everything as it was. */
export async function backgroundObstacles(
  qmp: QmpClient,
  vm: KnownProcess | undefined,
): Promise<string[]> {
  const all = await Promise.all([refusal(qmp), cleanUpObstacle(qmp, vm)]);
  return all.filter((one) => one !== undefined);
}

/** Setting the capability has QEMU check all it knows of (migrate_caps_check). */
async function refusal(qmp: QmpClient): Promise<string | undefined> {
  const plan = await planMigration(qmp, true);
  try {
    await applyMigration(qmp, plan);
  } catch (error) {
    return `QEMU says: ${(error as Error).message}`;
  }
  await restoreMigration(qmp, plan.saved);
  return undefined;
}

/** Where QEMU leaves memory protected when a snapshot is broken off, we must be able to help. */
async function cleanUpObstacle(
  qmp: QmpClient,
  vm: KnownProcess | undefined,
): Promise<string | undefined> {
  if (cleansUp(qmp)) return undefined;
  const { major, minor } = qmp.version;
  const obstacle = vm === undefined ? 'its process is not known' : liftingObstacle(vm);
  if (obstacle === undefined) return undefined;
  return `QEMU ${major}.${minor} leaves memory protected when a snapshot is broken off, and we could not lift that: ${obstacle}`;
}
