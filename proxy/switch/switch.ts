import { Fabric } from './fabric.ts';
import { LENGTH_BYTES } from './frames.ts';
import { Port, type PortStats } from './port.ts';

/** An Ethernet switch in user space between the network sockets of QEMUs. */
export class Switch {
  readonly #fabric: Fabric;
  readonly #ports: readonly Port[];

  /** @param paths sockets of QEMU's `-netdev stream,server=on,addr.type=unix`, a port each */
  constructor(paths: readonly string[]) {
    this.#fabric = new Fabric(paths.length);
    this.#ports = paths.map(
      (path, port) =>
        new Port(path, {
          onFrame: (wire) => this.#forward(port, wire),
          onDown: () => this.#fabric.forget(port),
        }),
    );
  }

  /** Dials all ports, and dials lost ones again until `close()`. No guest needs to be there yet. */
  start(): void {
    for (const port of this.#ports) port.start();
  }

  close(): void {
    for (const port of this.#ports) port.close();
  }

  get stats(): PortStats[] {
    return this.#ports.map((port) => port.stats);
  }

  #forward(port: number, wire: Buffer): void {
    for (const to of this.#fabric.route(port, wire.subarray(LENGTH_BYTES))) {
      this.#ports[to]?.send(wire);
    }
  }
}
