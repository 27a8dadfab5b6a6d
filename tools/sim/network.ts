/**
 * Commands and reports between the coordinator and its members. Each takes a base latency and a
 * tail of chance; what one sends to another arrives in order. The coordinator writes one command
 * after the other, so those of one fan-out leave in a row.
 */
import type { Events, Happening } from './events.ts';
import type { Random } from './random.ts';

export interface NetworkSpec {
  readonly latencyMs: number;
  /** Mean of the exponential tail, milliseconds. */
  readonly jitterMs: number;
  /** What the coordinator spends on one command, milliseconds. */
  readonly commandMs: number;
}

export const LOCAL_NETWORK: NetworkSpec = { latencyMs: 0.2, jitterMs: 0.3, commandMs: 0.015 };

export class Network {
  readonly #events: Events;
  readonly #spec: NetworkSpec;
  readonly #random: Random;
  /** The time at which the coordinator has sent all commands it was given. */
  #freeAtMs = 0;

  constructor(events: Events, spec: NetworkSpec, random: Random) {
    this.#events = events;
    this.#spec = spec;
    this.#random = random;
  }

  link(): Link {
    return new Link(this.#events, () => this.#latency());
  }

  /** Sends a command of the coordinator, after all earlier ones. */
  command(link: Link, arrive: Happening): void {
    this.#freeAtMs = Math.max(this.#freeAtMs, this.#events.nowMs) + this.#spec.commandMs;
    link.send(this.#freeAtMs, arrive);
  }

  #latency(): number {
    return this.#spec.latencyMs + this.#random.exponential(this.#spec.jitterMs);
  }
}

/** One direction of one connection: what is sent arrives in order. */
export class Link {
  readonly #events: Events;
  readonly #latency: () => number;
  #lastMs = 0;

  constructor(events: Events, latency: () => number) {
    this.#events = events;
    this.#latency = latency;
  }

  /** @param atMs when it leaves, milliseconds of virtual time */
  send(atMs: number, arrive: Happening): void {
    this.#lastMs = Math.max(this.#lastMs, atMs + this.#latency());
    this.#events.at(this.#lastMs, arrive);
  }
}
