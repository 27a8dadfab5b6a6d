import { FRAME_BYTES_MIN } from './frames.ts';

/** Most addresses remembered; the one learnt longest ago makes room. */
const ADDRESSES_MAX = 4096;
const NO_PORTS: readonly number[] = [];

/** A learning bridge without sockets: says which ports get a frame. Ports are 0, 1, 2 … */
export class Fabric {
  /** Ports by 48-bit address, as a number. Insertion order is the order of learning. */
  readonly #ports = new Map<number, number>();
  /** Routes made once, so that forwarding allocates nothing. */
  readonly #only: readonly (readonly number[])[];
  readonly #allBut: readonly (readonly number[])[];

  constructor(portCount: number) {
    const all = Array.from({ length: portCount }, (_, port) => port);
    this.#only = all.map((port) => [port]);
    this.#allBut = all.map((port) => all.filter((other) => other !== port));
  }

  /** Learns the sender's port and returns the ports that get the frame. */
  route(port: number, frame: Buffer): readonly number[] {
    if (frame.length < FRAME_BYTES_MIN) return NO_PORTS;
    const target = frame.readUIntBE(0, 6);
    const source = frame.readUIntBE(6, 6);
    if (!isGroup(source)) this.#learn(source, port);
    const known = isGroup(target) ? undefined : this.#ports.get(target);
    if (known === undefined) return this.#allBut[port] ?? NO_PORTS;
    return known === port ? NO_PORTS : (this.#only[known] ?? NO_PORTS);
  }

  /** Forgets the addresses behind a port: its guest may appear on another one. */
  forget(port: number): void {
    for (const [address, at] of this.#ports) if (at === port) this.#ports.delete(address);
  }

  get addressCount(): number {
    return this.#ports.size;
  }

  #learn(address: number, port: number): void {
    const known = this.#ports.get(address);
    if (known === port) return;
    if (known === undefined && this.#ports.size >= ADDRESSES_MAX) {
      const [oldest] = this.#ports.keys();
      if (oldest !== undefined) this.#ports.delete(oldest);
    }
    this.#ports.set(address, port);
  }
}

/** Returns true for broadcast and multicast: the lowest bit of the first byte is set. */
function isGroup(address: number): boolean {
  return Math.floor(address / 2 ** 40) % 2 === 1;
}
