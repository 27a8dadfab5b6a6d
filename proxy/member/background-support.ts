/**
 * What stands in the way of a background snapshot of a VM. QEMU is asked by trying, for it depends on
 * kernel, memory backends, devices and capabilities; what it does not check itself is looked for:
 *
 *     writes past QEMU   devices that write guest memory by other ways than QEMU's own page tables
 *                        (VFIO's DMA, vhost-user's processes) go past its write protection
 *     virtio-mem         its stream is none that the decoder takes (proxy/stream/refusals.ts)
 *     disks              go on changing after the cut; memory alone would be brought back
 *     cleaning up        snapshot-end.ts
 */
import type { QmpClient } from '../../qmp/index.ts';
import type { Failure } from '../failure.ts';
import type { KnownProcess } from '../known-process.ts';
import { applyMigration, planMigration, restoreMigration, writableDisks } from './qemu.ts';
import { cleansUp } from './snapshot-end.ts';
import { liftingObstacle } from './write-protection.ts';

type Obstacle = Pick<Failure, 'code' | 'message'>;

/** None, if one can be taken. Leaves everything as it was. */
export async function backgroundObstacles(
  qmp: QmpClient,
  vm: KnownProcess | undefined,
): Promise<Obstacle[]> {
  const disks = await writableDisks(qmp);
  const unsupported = [
    ...foreignWriters(await hmp(qmp, 'info qtree'), await hmp(qmp, 'info network')),
    ...(await refusals(qmp)),
    ...cleanUpObstacles(qmp, vm),
  ];
  return [
    ...unsupported.map((message) => ({ code: 'E_BACKGROUND_UNSUPPORTED', message })),
    ...disks.map((disk) => ({
      code: 'E_BACKGROUND_DISKS',
      message: `${disk} is a disk the guest can write to, and would go on to`,
    })),
  ];
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

/** Where QEMU leaves memory protected when a snapshot is broken off, we must be able to help. */
function cleanUpObstacles(qmp: QmpClient, vm: KnownProcess | undefined): string[] {
  if (cleansUp(qmp)) return [];
  const { major, minor } = qmp.version;
  const obstacle = vm === undefined ? 'its process is not known' : liftingObstacle(vm);
  if (obstacle === undefined) return [];
  const left = `QEMU ${major}.${minor} leaves memory protected when one is broken off`;
  return [`${left}, which could not be lifted: ${obstacle}`];
}
