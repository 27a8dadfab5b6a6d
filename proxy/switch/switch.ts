import { Fabric } from './fabric.ts';
import { lengthBytes } from './frames.ts';
import { Port, type PortStats } from './port.ts';

/** An Ethernet switch in user space between the network sockets of QEMUs. */
export class Switch {
  readonly #fabric: Fabric;
  readonly #ports: readonly Port[];

  /** One port for each path of a QEMU `-netdev stream,server=on,addr.type=unix` socket. */
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

  /** Dials all ports and keeps at it until `close()`; no guest needs to be there yet. */
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
    for (const to of this.#fabric.route(port, wire.subarray(lengthBytes))) {
      this.#ports[to]?.send(wire);
    }
  }
}
