/**
 * One pair of addresses: connections are accepted at one and made to the other, in the order in
 * which they came. QEMU before 8.0 takes the first that arrives for the main channel, so each is
 * made after the one before it.
 *
 * The migration a connection belongs to is certain only by its first bytes, and some connections
 * never send any. It joins the migration under way, and leaves it if it turns out to belong to
 * another.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { type Failure, UmbraError } from '../failure/failure.ts';
import { type Address, formatAddress } from '../host/address.ts';
import { Channel } from './channel.ts';
import { Inlet } from './inlet.ts';
import { CONNECTIONS_MAX } from './limits.ts';
import { Migration } from './migration.ts';
import type { RelayStore } from './relay-store.ts';
import type { MigrationReport } from './report.ts';

export interface RouteOptions {
  readonly name: string;
  readonly listen: Address;
  readonly to: Address;
}

/** Options of all routes. */
export interface SharedOptions {
  readonly store: RelayStore | undefined;
  readonly connectionsMax?: number;
}

export interface RouteEvents {
  readonly onMigration: (migration: Migration) => void;
  readonly onOver: (migration: Migration, report: MigrationReport) => void;
}

export class Route {
  readonly settings: RouteOptions;
  readonly #store: RelayStore | undefined;
  readonly #connectionsMax: number;
  readonly #events: RouteEvents;
  readonly #server: Server;
  /** Migration that new connections join. */
  #present: Migration | undefined;
  #connecting: Promise<void> = Promise.resolve();
  /** Connections accepted and not closed. */
  #open = 0;

  /** Listens on the route's address. @throws UmbraError E_RELAY_LISTEN */
  static async open(
    options: RouteOptions,
    shared: SharedOptions,
    events: RouteEvents,
  ): Promise<Route> {
    const route = new Route(options, shared, events);
    const { listen } = options;
    if (listen.kind === 'unix') removeStaleSocket(listen.path);
    await new Promise<void>((resolve, reject) => {
      route.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const message = `cannot listen on ${formatAddress(listen)}: ${cause.code}`;
        reject(new UmbraError({ code: 'E_RELAY_LISTEN', message }, cause));
      });
      route.#server.listen(listen.kind === 'unix' ? { path: listen.path } : listen, resolve);
    });
    return route;
  }

  private constructor(settings: RouteOptions, shared: SharedOptions, events: RouteEvents) {
    this.settings = settings;
    this.#store = shared.store;
    this.#connectionsMax = shared.connectionsMax ?? CONNECTIONS_MAX;
    this.#events = events;
    const options = { allowHalfOpen: true, pauseOnConnect: true };
    this.#server = createServer(options, (socket) => this.#accept(socket));
  }

  /** Takes no new connections; present ones continue. Idempotent. */
  close(): void {
    this.#server.close();
  }

  #accept(accepted: Socket): void {
    if (this.#open === this.#connectionsMax) {
      accepted.destroy();
      return;
    }
    this.#open++;
    const source = new Inlet(accepted);
    source.socket.once('close', () => this.#open--);
    let migration = this.#current();
    const channel: Channel = new Channel(source, {
      onKind: (kind) => {
        if (!migration.fits(kind)) {
          const others = migration;
          migration = this.#begin();
          migration.join(channel);
          others.leave(channel);
        }
        migration.onKind(channel, kind);
      },
      onSourceChunk: (chunk) => migration.onSourceChunk(channel, chunk),
      onSourceEnd: () => migration.onSourceEnd(channel),
      onTargetChunk: (chunk) => migration.onTargetChunk(channel, chunk),
      onDead: (failure: Failure) => migration.onDead(failure),
      onClosed: () => migration.onClosed(),
    });
    migration.join(channel);
    this.#connecting = this.#connecting.then(() => channel.connect(this.settings.to));
  }

  #current(): Migration {
    return this.#present === undefined || this.#present.isOver ? this.#begin() : this.#present;
  }

  #begin(): Migration {
    const { name, listen, to } = this.settings;
    const id = `${name}-${randomBytes(4).toString('hex')}`;
    const location = { id, name, listen: formatAddress(listen), to: formatAddress(to) };
    const migration: Migration = new Migration(location, this.#store, (report) => {
      this.#events.onOver(migration, report);
    });
    this.#present = migration;
    this.#events.onMigration(migration);
    return migration;
  }
}

/** Removes the socket of an earlier relay; any other file is left alone. */
function removeStaleSocket(path: string): void {
  try {
    if (lstatSync(path).isSocket()) rmSync(path);
  } catch {
    // not there
  }
}
