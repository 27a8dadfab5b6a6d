/** A network link between this machine and a network namespace on it. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** A network namespace, and a veth pair that ends in it. */
export class NetworkLink {
  readonly namespace: string;
  readonly addressA: string;
  readonly addressB: string;
  readonly #device: string;

  constructor() {
    const id = process.pid % 2 ** 15;
    this.namespace = `umbra-b-${id}`;
    this.#device = `umb${id}`;
    // Each process has a block of four addresses of 10.128.0.0/9.
    const block = `10.${128 + (id >> 8)}.${id & 255}`;
    this.addressA = `${block}.1`;
    this.addressB = `${block}.2`;
  }

  make(): void {
    this.remove();
    ip('netns', 'add', this.namespace);
    const peer = ['peer', 'name', 'eth0', 'netns', this.namespace];
    ip('link', 'add', this.#device, 'type', 'veth', ...peer);
    ip('address', 'add', `${this.addressA}/30`, 'dev', this.#device);
    ip('link', 'set', this.#device, 'up');
    ip('-n', this.namespace, 'address', 'add', `${this.addressB}/30`, 'dev', 'eth0');
    ip('-n', this.namespace, 'link', 'set', 'lo', 'up');
    ip('-n', this.namespace, 'link', 'set', 'eth0', 'up');
    ip('-n', this.namespace, 'link', 'set', 'lo', 'multicast', 'on');
    ip('-n', this.namespace, 'route', 'add', '224.0.0.0/4', 'dev', 'lo');
  }

  set(state: 'up' | 'down'): void {
    ip('-n', this.namespace, 'link', 'set', 'eth0', state);
  }

  remove(): void {
    if (existsSync(`/run/netns/${this.namespace}`)) ip('netns', 'del', this.namespace);
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
