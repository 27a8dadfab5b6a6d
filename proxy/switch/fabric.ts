import { frameBytesMin } from './frames.ts';

/** Addresses remembered; the one learnt longest ago makes room. */
const addressesMax = 4096;
const none: readonly number[] = [];

/** Where a frame goes: the learning bridge, apart from all sockets. Ports are 0, 1, 2 … */
export class Fabric {
  /** A 48-bit address as a number → port. Insertion order is the order of learning. */
  readonly #ports = new Map<number, number>();
  /** Answers made once, so that forwarding allocates nothing. */
  readonly #only: readonly (readonly number[])[];
  readonly #allBut: readonly (readonly number[])[];

  constructor(portCount: number) {
    const all = Array.from({ length: portCount }, (_, port) => port);
    this.#only = all.map((port) => [port]);
    this.#allBut = all.map((port) => all.filter((other) => other !== port));
  }

  /** Learns the sender's port and returns the ports that get the frame. */
  route(port: number, frame: Buffer): readonly number[] {
    if (frame.length < frameBytesMin) return none;
    const target = frame.readUIntBE(0, 6);
    const source = frame.readUIntBE(6, 6);
    if (!isGroup(source)) this.#learn(source, port);
    const known = isGroup(target) ? undefined : this.#ports.get(target);
    if (known === undefined) return this.#allBut[port] ?? none;
    return known === port ? none : (this.#only[known] ?? none);
  }

  /** The port's cable was pulled: whoever was behind it may turn up elsewhere. */
  forget(port: number): void {
    for (const [address, at] of this.#ports) if (at === port) this.#ports.delete(address);
  }

  get addressCount(): number {
    return this.#ports.size;
  }

  #learn(address: number, port: number): void {
    const known = this.#ports.get(address);
    if (known === port) return;
    if (known === undefined && this.#ports.size >= addressesMax) {
      const [oldest] = this.#ports.keys();
      if (oldest !== undefined) this.#ports.delete(oldest);
    }
    this.#ports.set(address, port);
  }
}

/** Broadcast or multicast: the lowest bit of the first byte. */
function isGroup(address: number): boolean {
  return Math.floor(address / 2 ** 40) % 2 === 1;
}
