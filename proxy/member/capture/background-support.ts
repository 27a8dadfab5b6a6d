/**
 * Finds what is in the way of a background snapshot of a VM. QEMU is asked by trying, for it
 * depends on kernel, memory backends, devices and capabilities. What QEMU does not check is looked
 * for here:
 *
 *     writes past QEMU   devices that write guest memory by other ways than QEMU's own page tables
 *                        (VFIO's DMA, vhost-user's processes) go past its write protection
 *     virtio-mem         has a stream that the decoder does not take (proxy/stream/refusals.ts)
 *     disks              change after the cut; a restore would bring back memory alone. Disks of
 *                        a VM that stays stopped until all are cut can be snapshotted (disks.ts)
 *     one cut            a VM whose frames cannot be held has to stay stopped until all are cut. A
 *                        QEMU before 9.0 resumes it (fixed by QEMU commit 49a5020697)
 *     cleaning up        see ../repair/snapshot-end.ts
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { Failure } from '../../failure/failure.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import type { PrepareCommand } from '../../protocol/member.ts';
import { snapshotObstacle, writableDisks } from '../qemu/disks.ts';
import { holdingObstacle, netdevs } from '../qemu/frame-hold.ts';
import { foreignWriters } from '../qemu/machine.ts';
import { applyMigration, planMigration, restoreMigration } from '../qemu/migration-settings.ts';
import { cleansUp } from '../repair/snapshot-end.ts';
import { liftingObstacle } from '../repair/write-protection.ts';

/** The part of a round's command that matters here. */
export type BackgroundOptions = Pick<
  PrepareCommand,
  'vm' | 'cut' | 'disks' | 'workingDirectory' | 'domainXml'
>;

type Obstacle = Pick<Failure, 'code' | 'message'>;

/** Returns what is in the way; nothing if a snapshot can be taken. Leaves the VM as it was. */
export async function backgroundObstacles(
  qmp: QmpClient,
  options: BackgroundOptions,
): Promise<Obstacle[]> {
  const unsupported = [
    ...foreignWriters(await hmp(qmp, 'info qtree'), await hmp(qmp, 'info network')),
    ...(await refusals(qmp)),
    ...(await cutObstacles(qmp, options)),
    ...cleanUpObstacles(qmp, options.vm),
  ];
  const disks = await diskObstacles(qmp, options);
  return [
    ...unsupported.map((message) => ({ code: 'E_BACKGROUND_UNSUPPORTED', message })),
    ...disks.map((message) => ({ code: 'E_BACKGROUND_DISKS', message })),
  ];
}

async function diskObstacles(
  qmp: QmpClient,
  { disks: mode, cut, workingDirectory, domainXml }: BackgroundOptions,
): Promise<string[]> {
  const disks = await writableDisks(qmp, workingDirectory);
  if (mode === 'leave') {
    return disks.map(({ device }) => {
      return `${device} is a disk that the guest would write to after the cut (round.disks: leave)`;
    });
  }
  if (disks.length === 0) return [];
  const names = disks.map(({ device }) => device).join(', ');
  if (cut === 'frames-held') {
    return [`${names} cannot be snapshotted with round.cut: frames-held, where VMs keep running`];
  }
  return disks.flatMap((disk) => snapshotObstacle(disk, domainXml !== undefined) ?? []);
}

async function hmp(qmp: QmpClient, command: string): Promise<string> {
  return qmp.execute('human-monitor-command', { 'command-line': command });
}

/** Returns QEMU's refusal: setting the capability has it check all it can (migrate_caps_check). */
async function refusals(qmp: QmpClient): Promise<string[]> {
  const plan = await planMigration(qmp, true);
  try {
    await applyMigration(qmp, plan);
    return [];
  } catch (error) {
    return [`QEMU refuses: ${(error as Error).message}`];
  } finally {
    await restoreMigration(qmp, plan.saved);
  }
}

/**
 * Returns what is in the way of one cut of all members. Until all are cut, either a VM's frames are
 * held or the VM stays stopped. QEMU must allow one of them.
 */
async function cutObstacles(qmp: QmpClient, options: BackgroundOptions): Promise<string[]> {
  const { cut, disks, workingDirectory } = options;
  const { major, minor } = qmp.version;
  const letsRun = `QEMU ${major}.${minor} lets a stopped VM run after its snapshot (9.0 does not)`;
  const unlessItStands = (why: string) => (staysStopped(qmp) ? [] : [`${letsRun}, and ${why}`]);
  if (cut === 'all-stopped') return unlessItStands('round.cut is all-stopped');
  if (disks === 'snapshot' && (await writableDisks(qmp, workingDirectory)).length > 0) {
    return unlessItStands('disks can be snapshotted only while it stands');
  }
  const obstacle = await holdingObstacle(qmp, await netdevs(qmp));
  if (obstacle === undefined) return [];
  return cut === 'frames-held' ? [obstacle] : unlessItStands(obstacle);
}

/** Foresees whether QEMU keeps a VM stopped. A round finds out if it does not (background.ts). */
function staysStopped({ version: { major } }: QmpClient): boolean {
  return major >= 9;
}

/** Requires that Umbra can lift the protection that QEMU leaves when a snapshot is broken off. */
function cleanUpObstacles(qmp: QmpClient, vm: KnownProcess | undefined): string[] {
  if (cleansUp(qmp)) return [];
  const { major, minor } = qmp.version;
  const obstacle = vm === undefined ? 'its process is not known' : liftingObstacle(vm);
  if (obstacle === undefined) return [];
  const left = `QEMU ${major}.${minor} leaves memory protected when one is broken off`;
  return [`${left}, which could not be lifted: ${obstacle}`];
}
