/**
 * Finds changes that a monitor's client has made to a VM since it was started: the machine is not
 * the one that its options make. PURE.
 *
 *     plugged in    QEMU says so of each device                     a restored VM would lack it
 *     taken out     an option's device is not there                 it would come back
 *     networks      no option has made a backend with a state       its state would have no place
 *     media         a drive has not the file that an option names   it would be the old one
 */
import type { Machine } from '../protocol/machine.ts';
import { isBalloon } from './map-obstacle.ts';
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

const NETWORKS: ReadonlySet<string> = new Set(['netdev', 'net', 'nic']);

/** Returns the changes in words; none if the options make the machine as it is. */
export function machineChanges(options: readonly QemuOption[], machine: Machine): string[] {
  const wanted = options
    .filter(({ name }) => name === 'device')
    .map(({ value = '' }) => new OptionValue(value, 'driver'))
    // A standby card is there only once its primary has asked for it (failover_pair_id).
    .filter((device) => device.get('failover_pair_id') === undefined);
  const plugged = machine.devices.filter((device) => device.plugged);
  const ids = new Set(machine.devices.map(({ id }) => id));
  const gone = wanted.filter((device) => {
    const id = device.get('id');
    return id !== undefined && !ids.has(id);
  });
  const nameless = wanted.filter((device) => device.get('id') === undefined).length;
  const stay = machine.devices.filter((device) => device.id === '' && !device.plugged).length;
  const networks = new Set(
    options
      .filter(({ name }) => NETWORKS.has(name))
      .map(({ value = '' }) => new OptionValue(value, 'type').get('id')),
  );
  const added = machine.statefulNetworks.filter((id) => !networks.has(id));
  return [
    ...added.map((id) => `the network backend ${id} (user) was added`),
    ...plugged.map(({ id, driver }) => `${nameOf(driver, id)} was plugged in`),
    ...gone.map((device) => {
      return `${nameOf(device.get('driver') ?? '', device.get('id') ?? '')} was taken out`;
    }),
    ...(stay < nameless ? [`of ${nameless} devices without id, ${stay} are left`] : []),
  ];
}

/** Returns true if the options, or the machine as it is, have a balloon. */
export function hasBalloon(options: readonly QemuOption[], machine: Machine | undefined): boolean {
  const given = options.some(({ name, value = '' }) => name === 'device' && isBalloon(value));
  return given || machine?.balloon === true;
}

function nameOf(driver: string, id: string): string {
  return id === '' ? driver : `${driver} ${id}`;
}
