/**
 * Asks a QEMU which machine it runs. Its command line is not the machine: a monitor's client plugs
 * devices in, takes them out, changes media.
 *
 *     /machine                   type, memory-backend, suppress-vmdesc     (hw/core/machine.c)
 *     /machine/peripheral        devices with an id, each `hotplugged` or not
 *     /machine/peripheral-anon   devices without one                       (softmmu/qdev-monitor.c)
 *     x-query-virtio             virtio devices, and how large their queues are
 *     info network               backends; one of type `user` sends a state (`slirp`), used or not
 */
import type { BlockInfo, QmpClient } from '../../../qmp/index.ts';
import type { Machine } from '../../../shadow/index.ts';
import type { ExamineResult } from '../../protocol/member.ts';
import { allDisks } from './disks.ts';
import { hasBalloon } from './memory.ts';
import { hasLargeQueues } from './virtio-queues.ts';

const CHILD = /^child<(.+)>$/;
const ANONYMOUS = '/machine/peripheral-anon';
const FOLDERS = ['/machine/peripheral', ANONYMOUS] as const;

/**
 * Returns the machine. Changes nothing.
 * @param network `info network`, if it was asked already
 */
export async function describeMachine(qmp: QmpClient, network?: string): Promise<Machine> {
  const backend = await machineProperty(qmp, 'memory-backend');
  return {
    type: String(await machineProperty(qmp, 'type')).replace(/-machine$/, ''),
    mainRam: String(backend ?? '').replace(/^.*\//, ''),
    balloon: await hasBalloon(qmp),
    devices: await Promise.all((await devicePaths(qmp)).map((device) => deviceAt(qmp, device))),
    statefulNetworks: statefulNetworks(network ?? (await hmp(qmp, 'info network'))),
    media: mediaOf(await qmp.execute('query-block')),
    ...((await hasLargeQueues(qmp)) && { largeQueues: true }),
  };
}

/** Returns the machine and its disks. Changes nothing. */
export async function examineVm(
  qmp: QmpClient,
  workingDirectory: string,
): Promise<Pick<ExamineResult, 'machine' | 'disks' | 'writers'>> {
  const disks = (await allDisks(qmp, workingDirectory)).map(({ device, layers, isWritable }) => {
    return { device, files: layers.map(({ path }) => path), isWritable };
  });
  const network = await hmp(qmp, 'info network');
  const machine = await describeMachine(qmp, network);
  const writers = [...machine.devices.flatMap(writerOf), ...networkWriters(network)];
  return { machine, disks, writers };
}

async function hmp(qmp: QmpClient, command: string): Promise<string> {
  return qmp.execute('human-monitor-command', { 'command-line': command });
}

/**
 * Returns true if QEMU ends a stream with a description of the device state, which the decoder
 * needs to find that state's end.
 */
export async function describesState(qmp: QmpClient): Promise<boolean> {
  return (await machineProperty(qmp, 'suppress-vmdesc')) !== true;
}

/** Returns a property of the machine; undefined if this QEMU's machine has none of that name. */
async function machineProperty(qmp: QmpClient, property: string): Promise<unknown> {
  return qmp.execute('qom-get', { path: '/machine', property }).catch(() => undefined);
}

/**
 * Returns the ids of backends of type `user`. To one without id QEMU gives one that begins with #.
 * @param network `info network` (net/net.c): ` \\ NAME: index=0,type=user,…`, behind a hub's port
 */
export function statefulNetworks(network: string): string[] {
  const backends = network.matchAll(/^.*?([^:\s\\]+): index=\d+,type=user\b/gm);
  return [...backends].flatMap(([, id = '']) => (id.startsWith('#') ? [] : [id]));
}

/**
 * Returns, in words, devices and network backends that write guest memory past QEMU's own
 * mapping of it: neither its write protection nor a watch of it sees that.
 * @param tree `info qtree` (qdev-monitor.c, qdev_print): `dev: TYPE, id "ID"`, indented by depth
 * @param network `info network` (net/net.c): ` \\ NAME: index=0,type=TYPE,…`
 */
export function foreignWriters(tree: string, network: string): string[] {
  const devices = [...tree.matchAll(/^ *dev: ([^,\n]+), id "([^"\n]*)"/gm)].flatMap(
    ([, driver = '', id = '']) => writerOf({ driver, id }),
  );
  return [...devices, ...networkWriters(network)];
}

function writerOf({ driver, id }: Pick<DevicePosition, 'driver' | 'id'>): string[] {
  const name = id === '' ? driver : `${driver} ${id}`;
  if (driver.startsWith('vfio-')) return [`${name} writes memory by DMA, past QEMU`];
  if (driver.startsWith('vhost-user-')) return [`${name} writes memory from another process`];
  if (driver.startsWith('virtio-mem-')) return [`${name} has a stream that Umbra does not take`];
  return [];
}

function networkWriters(network: string): string[] {
  const backends = network.matchAll(/^ ?\\? ?([^:\s]+): index=\d+,type=(vhost-\w+),/gm);
  return [...backends].map(([, name, type]) => `${name} (${type}) writes memory past QEMU`);
}

/** A device, and its place in QEMU's tree of objects. */
interface DevicePosition {
  readonly path: string;
  /** Empty for a device without id. */
  readonly id: string;
  readonly driver: string;
}

/** Returns the devices that options or a monitor's client have made. */
export async function devicePaths(qmp: QmpClient): Promise<DevicePosition[]> {
  const positions = await Promise.all(
    FOLDERS.map(async (folder) => {
      const children = await qmp.execute('qom-list', { path: folder });
      return children.flatMap(({ name, type }) => {
        const driver = CHILD.exec(type)?.[1];
        const id = folder === ANONYMOUS ? '' : name;
        return driver === undefined ? [] : [{ path: `${folder}/${name}`, id, driver }];
      });
    }),
  );
  return positions.flat();
}

async function deviceAt(qmp: QmpClient, { path, id, driver }: DevicePosition) {
  // A device that is taken out at this instant has no property any more.
  const hotplugged = qmp.execute('qom-get', { path, property: 'hotplugged' }).catch(() => false);
  return { id, driver, plugged: (await hotplugged) === true };
}

function mediaOf(blocks: readonly BlockInfo[]): Machine['media'] {
  return blocks
    .filter(({ removable }) => removable)
    .map(({ device, qdev, inserted }) => ({
      drive: device || (qdev ?? ''),
      file: inserted?.image?.filename ?? inserted?.file ?? '',
    }));
}

/**
 * Returns, in words, what besides the guest writes to the VM's disks. QEMU ends a migration, the
 * VM stopped already, if anything else holds a disk for writing (bdrv_inactivate_all, block.c).
 */
export async function otherWriters(qmp: QmpClient): Promise<string[]> {
  const jobs = await qmp.execute('query-block-jobs');
  const exports = await qmp.execute('query-block-exports');
  const words = jobs.map(({ device, type = 'block' }) => `the ${type} job ${device}`);
  if (exports.length === 0) return words;
  const { nodes, edges } = await qmp.execute('x-debug-query-block-graph');
  const idsOf = (type: string) => nodes.filter((node) => node.type === type).map(({ id }) => id);
  const backends = new Set(idsOf('block-backend'));
  const writersOf = (node: string) => {
    const id = nodes.find(({ name, type }) => name === node && type === 'block-driver')?.id;
    return edges.filter(({ parent, child, perm }) => {
      return child === id && backends.has(parent) && perm.includes('write');
    }).length;
  };
  const blocks = await qmp.execute('query-block');
  const ofGuest = (node: string) =>
    blocks.filter(({ inserted }) => inserted?.['node-name'] === node && !inserted.ro).length;
  const written = exports.filter(({ 'node-name': node }) => writersOf(node) > ofGuest(node));
  return [...words, ...written.map(({ id, type }) => `the ${type} export ${id}`)];
}
