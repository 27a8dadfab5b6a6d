/** Chooses an epoch of a relay's store, and the member of this cluster that it is of. */
import { accessSync, constants } from 'node:fs';
import { Catalogue, type EpochManifest, requireTrustedFolder } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import type { RelayedOrigin } from '../../protocol/agent.ts';
import { RELAY_CLUSTER } from '../../protocol/relay.ts';

export interface RelayedRequest {
  /** The relay's folder. */
  readonly store: string;
  /** The newest of the member's if undefined. */
  readonly epoch: number | undefined;
  /** The member that the VM is; if undefined, the one of its name. */
  readonly member: string | undefined;
  /** XML of the domain, instead of what libvirt has. */
  readonly xml: string | undefined;
}

export interface ChosenRelayed {
  /** Names the member of this cluster. */
  readonly manifest: EpochManifest;
  readonly origin: RelayedOrigin;
  /** @throws ShadowError if the relay keeps the epoch no longer */
  require(): Promise<void>;
}

/**
 * Chooses an epoch, and its member.
 * @param epochs the folder of the store's epochs
 * @param members names of this cluster's members
 * @throws UmbraError E_RELAY_STORE, E_MEMBER_UNKNOWN; ShadowError E_EPOCH_UNKNOWN, E_FOLDER_UNSAFE
 */
export async function chooseRelayed(
  { store, epoch, member, xml }: RelayedRequest,
  epochs: string,
  members: readonly string[],
): Promise<ChosenRelayed> {
  try {
    accessSync(epochs, constants.R_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why =
      code === 'EACCES' ? 'cannot be read: the daemon is not the relay’s user' : undefined;
    const message = `${store} ${why ?? 'is no relay’s store'}`;
    throw new UmbraError({ code: 'E_RELAY_STORE', message }, cause);
  }
  requireTrustedFolder(store); // what is there becomes a VM
  const catalogue = new Catalogue(epochs, RELAY_CLUSTER);
  const found =
    epoch === undefined
      ? await newestOf(catalogue, member === undefined ? members : [member])
      : await catalogue.read(epoch);
  const [passed] = found.members;
  const vm = passed?.name ?? '';
  const name = member ?? vm;
  if (passed === undefined || !members.includes(name)) {
    const message = `epoch ${found.epoch} is of VM ${vm}; this cluster has no member ${name}`;
    const hint = `Say which member it is: --member NAME; there are: ${members.join(', ')}`;
    throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, hint });
  }
  return {
    manifest: { ...found, members: [{ ...passed, name }] },
    origin: { store, vm, xml },
    require: async () => {
      await catalogue.read(found.epoch);
    },
  };
}

async function newestOf(catalogue: Catalogue, names: readonly string[]): Promise<EpochManifest> {
  const { epochs } = await catalogue.list();
  const own = epochs.filter(({ members }) => members.some(({ name }) => names.includes(name)));
  const newest = own.at(-1);
  if (newest !== undefined) return newest;
  const vms = [...new Set(epochs.flatMap(({ members }) => members.map(({ name }) => name)))];
  const has = vms.length === 0 ? 'none at all' : `some of ${vms.join(', ')}`;
  const message = `the relay has no epoch of ${names.join(', ')}; it has ${has}`;
  throw new UmbraError({ code: 'E_EPOCH_UNKNOWN', message });
}
