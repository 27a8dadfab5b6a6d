/**
 * What stands in the way of a background snapshot of a VM. QEMU is asked by trying, for it depends on
 * kernel, memory backends, devices and capabilities; what it does not check itself is looked for:
 *
 *     writes past QEMU   devices that write guest memory by other ways than QEMU's own page tables
 *                        (VFIO's DMA, vhost-user's processes) go past its write protection
 *     virtio-mem         its stream is none that the decoder takes (proxy/stream/refusals.ts)
 *     disks              go on changing after the cut; memory alone would be brought back. Those of a VM
 *                        that stands until all are cut can be snapshotted (disks.ts)
 *     one cut            whose frames cannot be held has to stand until all are cut, which a QEMU before 9.0
 *                        does not let it: it has the VM run (its commit 49a5020697 mends that)
 *     cleaning up        snapshot-end.ts
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { Failure } from '../../failure/failure.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import type { PrepareCommand } from '../../protocol/member.ts';
import { snapshotObstacle, writableDisks } from '../qemu/disks.ts';
import { holdingObstacle, netdevs } from '../qemu/frame-hold.ts';
import { applyMigration, planMigration, restoreMigration } from '../qemu/migration-settings.ts';
import { cleansUp } from '../repair/snapshot-end.ts';
import { liftingObstacle } from '../repair/write-protection.ts';

/** How it is to be captured, as far as that matters. */
export type BackgroundOptions = Pick<
  PrepareCommand,
  'vm' | 'cut' | 'disks' | 'workingDirectory' | 'domainXml'
>;

type Obstacle = Pick<Failure, 'code' | 'message'>;

/** None, if one can be taken. Leaves everything as it was. */
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
      return `${device} is a disk the guest can write to, and would go on to (round.disks: leave)`;
    });
  }
  if (disks.length === 0) return [];
  const names = disks.map(({ device }) => device).join(', ');
  if (cut === 'frames-held') {
    return [`${names} could not be snapshotted with round.cut: frames-held, where VMs run on`];
  }
  if (domainXml !== undefined) {
    return [`${names}: libvirt keeps its own account of disks, which a snapshot would upset`];
  }
  return disks.flatMap((disk) => snapshotObstacle(disk) ?? []);
}

async function hmp(qmp: QmpClient, command: string): Promise<string> {
  return qmp.execute('human-monitor-command', { 'command-line': command });
}

/**
 * Devices and network backends that a snapshot of QEMU's own memory would miss writes of, in words.
 * @param tree `info qtree` (qdev-monitor.c, qdev_print): `dev: TYPE, id "ID"`, indented by its depth
 * @param network `info network` (net/net.c): ` \\ NAME: index=0,type=TYPE,…`
 */
export function foreignWriters(tree: string, network: string): string[] {
  const backends = [...network.matchAll(/^ ?\\? ?([^:\s]+): index=\d+,type=(vhost-\w+),/gm)];
  const devices = [...tree.matchAll(/^ *dev: ([^,\n]+), id "([^"\n]*)"/gm)].flatMap(
    ([, type = '', id]) => {
      const name = id === '' ? type : `${type} ${id}`;
      if (type.startsWith('vfio-')) return [`${name} writes memory by DMA, past QEMU`];
      if (type.startsWith('vhost-user-')) return [`${name} writes memory from another process`];
      if (type.startsWith('virtio-mem-')) return [`${name} has a stream we do not take`];
      return [];
    },
  );
  return [
    ...devices,
    ...backends.map(([, name, type]) => `${name} (${type}) writes memory past QEMU`),
  ];
}

/** Setting the capability has QEMU check all it knows of (migrate_caps_check). */
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

/** Either nobody hears of what runs on before all are cut, or it stands: one of them QEMU must allow. */
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

/** Should it be otherwise, the round notices (background-drive.ts). */
function staysStopped({ version: { major } }: QmpClient): boolean {
  return major >= 9;
}

/** Where QEMU leaves memory protected when a snapshot is broken off, we must be able to help. */
function cleanUpObstacles(qmp: QmpClient, vm: KnownProcess | undefined): string[] {
  if (cleansUp(qmp)) return [];
  const { major, minor } = qmp.version;
  const obstacle = vm === undefined ? 'its process is not known' : liftingObstacle(vm);
  if (obstacle === undefined) return [];
  const left = `QEMU ${major}.${minor} leaves memory protected when one is broken off`;
  return [`${left}, which could not be lifted: ${obstacle}`];
}
