/**
 * Finds the guest agent's port of a VM. The running machine is asked, not its command line:
 *
 *     /machine/peripheral…/DEVICE   virtserialport: its name; isa-serial, which has none: its id
 *              └ chardev = LABEL ─▶ query-chardev: disconnected:unix:PATH,server=on
 */
import { resolve } from 'node:path';
import type { ChardevInfo, QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { devicePaths } from '../qemu/machine.ts';

/** The name by which guest and host know the port (qemu-ga(8)). */
const PORT_NAME = 'org.qemu.guest_agent.0';
/** Devices that can be the port, each with the property that names it. */
const NAMED_BY: Readonly<Record<string, string | undefined>> = {
  virtserialport: 'name',
  virtconsole: 'name',
  'isa-serial': undefined,
};

/**
 * Returns the path of the socket behind the guest agent's port.
 * @throws UmbraError E_GUEST_AGENT: the VM has none, or another client talks with the agent
 */
export async function agentSocket(qmp: QmpClient, workingDirectory: string): Promise<string> {
  const label = await agentChardev(qmp);
  if (label === undefined) throw obstacle(`the VM has no port ${PORT_NAME}`);
  const chardevs = await qmp.execute('query-chardev');
  const path = socketOf(chardevs.find((chardev) => chardev.label === label));
  return resolve(workingDirectory, path);
}

/**
 * Returns the path of the socket that a chardev listens on (chardev/char-socket.c).
 * @throws UmbraError E_GUEST_AGENT: it is none, or has a client
 */
export function socketOf(chardev: ChardevInfo | undefined): string {
  const { label = '', filename = '', 'frontend-open': isOpen } = chardev ?? {};
  const found = /^(disconnected:)?unix:(.+),server=on/s.exec(filename);
  const path = found?.[2];
  if (path === undefined) throw obstacle(`its chardev ${label} is no unix socket with server=on`);
  if (found?.[1] === undefined) throw obstacle(`another client talks with it on ${path}`);
  if (isOpen === false) throw obstacle('no program in the guest has opened its port');
  return path;
}

/** Returns the label of the chardev behind the port; undefined if the VM has no such port. */
async function agentChardev(qmp: QmpClient): Promise<string | undefined> {
  for (const { path, id, driver } of await devicePaths(qmp)) {
    if (!(driver in NAMED_BY)) continue;
    const property = NAMED_BY[driver];
    const name = property === undefined ? id : await get(path, property);
    if (name !== PORT_NAME) continue;
    const label = await get(path, 'chardev');
    if (typeof label === 'string') return label;
  }
  return undefined;

  // A device that is taken out at this instant has no property any more.
  function get(path: string, property: string): Promise<unknown> {
    return qmp.execute('qom-get', { path, property }).catch(() => undefined);
  }
}

function obstacle(why: string): UmbraError {
  const message = `the guest agent cannot be reached: ${why}`;
  return new UmbraError({ code: 'E_GUEST_AGENT', message });
}
