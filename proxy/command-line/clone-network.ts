/**
 * The network cards of a clone. PURE.
 *
 *     a socket that the cluster's switch dials     a socket of the clone's own, for its own switch
 *     user networking that reaches nothing         as it is
 *     any other backend                            refused, or unplugged: the card leads nowhere
 *
 * A card's state is in the stream, so the card stays; only its backend changes. What can take a
 * backend's place was tried on QEMU 7.2 and 10.0: a card on `user` needs `user` again, whose own
 * state is in the stream ("slirp"); virtio on a tap needs a tap again (vnet_hdr); the others load
 * on a hub port that leads nowhere.
 */
import type { ClonedPaths } from './clone-paths.ts';
import { notIsolated, refused } from './clone-refusals.ts';
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** Properties of `-netdev user` through which packets reach the host, or come from it. */
const OUTWARD = /^(hostfwd|guestfwd|smb|smbserver)$/;
/** Backends without vnet_hdr: a hub port can take their place. */
const WITHOUT_HEADER: ReadonlySet<string> = new Set(['socket', 'stream', 'dgram', 'l2tpv3', 'vde']);
/** Properties that belong to the card, or name the backend. */
const CARD: ReadonlySet<string> = new Set([
  'type',
  'id',
  'model',
  'mac',
  'macaddr',
  'name',
  'addr',
]);
/** The first number of a hub for an unplugged card: hubs of the VM's own have small numbers. */
const FIRST_HUB = 7500;
/** Options that keep QEMU from adding a card of its own. */
const SAYS_NETWORK: ReadonlySet<string> = new Set(['nodefaults', 'netdev', 'nic', 'net']);

/** The networks that a clone may use. */
export interface CloneNetworkOptions {
  /** Network sockets that the first cluster's switch dials. */
  readonly switched: readonly string[];
  /** Unplug cards that cannot have a network of their own, instead of refusing them. */
  readonly disconnect: boolean;
}

/** The network cards of one clone, as its options are rewritten one by one. */
export class CloneNetwork {
  /** Sockets for the clone's switch to dial. */
  readonly sockets: string[] = [];
  /** Cards that lead nowhere now, as options. */
  readonly unplugged: string[] = [];
  readonly #options: CloneNetworkOptions;
  readonly #paths: ClonedPaths;
  #hubs = 0;

  constructor(options: CloneNetworkOptions, paths: ClonedPaths) {
    this.#options = options;
    this.#paths = paths;
  }

  /**
   * Returns the value of a `-netdev`, `-nic` or `-net` for the clone.
   * @throws UmbraError E_CLONE_NETWORK, E_CLONE_COMMAND
   */
  card(option: string, text: string): string {
    const value = new OptionValue(text, 'type');
    const type = value.get('type') ?? '';
    if (type === 'nic' || type === 'none' || type === 'hubport') return text;
    if (type === 'stream' && value.isOn('server') && value.get('addr.type') === 'unix') {
      const path = value.get('addr.path') ?? '';
      const socket = this.#paths.socket(option, path);
      const isSwitched = this.#options.switched.includes(this.#paths.absolute(path));
      if (isSwitched) this.sockets.push(socket);
      else this.unplugged.push(`-${option} ${text}`); // no peer of the first VM dials this socket
      value.set('addr.path', socket);
      return value.format();
    }
    if (type === 'user' && value.isOn('restrict') && !value.keys.some((key) => OUTWARD.test(key))) {
      return text;
    }
    const what = `-${option} ${text}`;
    if (!this.#options.disconnect) throw notIsolated(what);
    this.#unplug(value, type, option, text);
    this.unplugged.push(what);
    return value.format();
  }

  /**
   * Returns options that take the place of the network QEMU gives a VM when no option says
   * otherwise: a card, with the host's network behind it.
   * @throws UmbraError E_CLONE_NETWORK
   */
  inPlaceOfDefault(options: readonly QemuOption[]): QemuOption[] {
    if (options.some(({ name }) => SAYS_NETWORK.has(name))) return [];
    const what = 'the network QEMU gives a VM when no option speaks of one';
    if (!this.#options.disconnect) throw notIsolated(what);
    this.unplugged.push(what);
    return [{ name: 'nic', value: 'user,restrict=on' }];
  }

  #unplug(value: OptionValue, type: string, option: string, text: string): void {
    const without = (keys: readonly string[]) => {
      for (const key of keys) value.delete(key);
    };
    if (type === 'user') {
      without(value.keys.filter((key) => OUTWARD.test(key)));
      value.set('restrict', 'on');
    } else if (type === 'tap' || type === 'bridge') {
      value.set('type', 'tap');
      without(['ifname', 'br', 'helper']);
      value.set('script', 'no');
      value.set('downscript', 'no');
    } else if (WITHOUT_HEADER.has(type) && option !== 'net') {
      value.set('type', 'hubport');
      without(value.keys.filter((key) => !CARD.has(key)));
      value.set('hubid', String(FIRST_HUB + this.#hubs++));
    } else {
      const hint = 'Bring the clone up from an epoch taken without this card.';
      const message = `cannot be unplugged: the card’s state fits no other backend`;
      throw refused('E_CLONE_NETWORK', `-${option} ${text}`, message, hint);
    }
  }
}
