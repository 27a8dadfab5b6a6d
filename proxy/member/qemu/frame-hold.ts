/**
 * Holds the frames a guest sends, so that none leaves between its cut and the last member's.
 *
 *     guest ──▶ NIC ──▶ filter-buffer ──▶ netdev        object-add: from now on frames are kept
 *                                                        object-del: they are sent, in order
 *
 * Of filter-buffer's queues, `rx` is what the netdev receives from the guest (net/filter-buffer.c).
 * Its interval is longer than any hold: Umbra's release ends it. A vhost netdev bypasses all
 * filters, and QEMU refuses one there.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import { QmpError } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

const ID = 'umbra-hold-';
const TRIED_ID = 'umbra-try-';
/** Microseconds; the largest a uint32 takes. Over an hour: the stop deadline comes first. */
const INTERVAL_US = 0xffffffff;

/** Returns the network backends that a guest's NICs are connected to. */
export async function netdevs(qmp: QmpClient): Promise<string[]> {
  const text = await qmp.execute('human-monitor-command', { 'command-line': 'info network' });
  return parseNetwork(text);
}

/**
 * Reads `info network` (net/net.c, hmp_info_network): a NIC, and behind a backslash its peer.
 *
 *     virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56
 *      \ net0: index=0,type=stream,…
 */
export function parseNetwork(text: string): string[] {
  return [...text.matchAll(/^ \\ ([^:\s]+): /gm)].map(([, name = '']) => name);
}

/**
 * Tries whether frames could be held, with a filter that is off and delays nothing.
 * @returns why not, in QEMU's words; undefined if they can
 */
export async function holdingObstacle(
  qmp: QmpClient,
  backends: readonly string[],
): Promise<string | undefined> {
  for (const netdev of backends) {
    const id = TRIED_ID + netdev;
    await ignoringRefusal(qmp.execute('object-del', { id })); // a proxy that died may have left it
    const options = { netdev, queue: 'rx', interval: INTERVAL_US, status: 'off' };
    try {
      await qmp.execute('object-add', { 'qom-type': 'filter-buffer', id, ...options });
    } catch (error) {
      if (!(error instanceof QmpError && error.code === 'E_QMP_COMMAND')) throw error;
      return `the frames of ${netdev} cannot be held (${error.message})`;
    }
    await qmp.execute('object-del', { id });
  }
  return undefined;
}

/** Holds what the guest sends from now on. @throws UmbraError E_HOLD_FRAMES */
export async function holdFrames(qmp: QmpClient, backends: readonly string[]): Promise<void> {
  for (const netdev of backends) {
    const options = { netdev, queue: 'rx', interval: INTERVAL_US };
    try {
      await qmp.execute('object-add', { 'qom-type': 'filter-buffer', id: ID + netdev, ...options });
    } catch (cause) {
      const message = `the frames of ${netdev} cannot be held: ${(cause as Error).message}`;
      throw new UmbraError({ code: 'E_HOLD_FRAMES', message }, cause);
    }
  }
}

/** Sends the frames that were held, in order. Idempotent. */
export async function releaseFrames(qmp: QmpClient, backends: readonly string[]): Promise<void> {
  for (const netdev of backends) {
    // Not held (any more): "object 'umbra-hold-net0' not found".
    await ignoringRefusal(qmp.execute('object-del', { id: ID + netdev }));
  }
}

async function ignoringRefusal(command: Promise<unknown>): Promise<void> {
  try {
    await command;
  } catch (error) {
    if (!(error instanceof QmpError && error.code === 'E_QMP_COMMAND')) throw error;
  }
}
