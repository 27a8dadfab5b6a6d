/**
 * The relay: routes side by side, the migrations on them, and the reports about those.
 *
 *     OPEN ──drain──▶ DRAINING ──the last migration is over──▶ ENDED
 *       └──────────────┴──end──▶ every migration is reset ───────▲
 */
import { chooseMigrations, type EvacuationPolicy } from '../../policies/index.ts';
import type { Migration } from './migration.ts';
import type { RelayStore } from './relay-store.ts';
import type { MigrationProgress, MigrationReport } from './report.ts';
import { Route, type RouteOptions } from './route.ts';

export interface RelayOptions {
  readonly routes: readonly RouteOptions[];
  /** Milliseconds after which a side that takes none of the bytes waiting for it is given up. */
  readonly stallLimitMs: number;
  /** Policy of turns; undefined: all flow at once. */
  readonly evacuation: EvacuationPolicy | undefined;
  /** Most connections at once on a route; by default CONNECTIONS_MAX. */
  readonly connectionsMax?: number;
  /** Keeps a shadow of each VM that passes; the relay closes it. */
  readonly store: RelayStore | undefined;
}

export interface RelayEvents {
  /** Reports progress every half second, while there are migrations. */
  readonly onProgress: (migrations: readonly MigrationProgress[]) => void;
  readonly onReport: (report: MigrationReport) => void;
}

const TICK_MS = 50;
/** Ticks from one report of progress to the next. */
const TICKS_PER_PROGRESS = 10;

export class Relay {
  #options: RelayOptions;
  readonly #events: RelayEvents;
  readonly #routes: Route[] = [];
  /** Migrations under way, in the order in which they came. */
  readonly #migrations = new Map<string, Migration>();
  /** Time at which the first migration under way came, by performance.now(). */
  #since = 0;
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  #draining = false;
  #ended: () => void = () => {};
  /** Resolves when it has drained. */
  readonly over = new Promise<void>((resolve) => {
    this.#ended = resolve;
  });

  /** Opens all routes. @throws UmbraError E_RELAY_LISTEN; nothing listens then */
  static async open(options: RelayOptions, events: RelayEvents): Promise<Relay> {
    const relay = new Relay(options, events);
    try {
      for (const route of options.routes) {
        const opened = await Route.open(route, options, {
          onMigration: (migration) => relay.#onMigration(migration),
          onOver: (migration, report) => relay.#onOver(migration, report),
        });
        relay.#routes.push(opened);
      }
    } catch (error) {
      relay.drain();
      throw error;
    }
    relay.#timer = setInterval(() => relay.#tick(), TICK_MS);
    return relay;
  }

  private constructor(options: RelayOptions, events: RelayEvents) {
    this.#options = options;
    this.#events = events;
  }

  /**
   * Changes the order of turns and the stall limit, for migrations under way, too. What waits, and
   * need not any more, flows at once.
   */
  reconfigure({
    stallLimitMs,
    evacuation,
  }: Pick<RelayOptions, 'stallLimitMs' | 'evacuation'>): void {
    this.#options = { ...this.#options, stallLimitMs, evacuation };
    if (evacuation !== undefined) return; // at the next tick
    for (const migration of this.#migrations.values()) migration.free();
  }

  /** Takes no new migrations; those under way continue to their end. Idempotent. */
  drain(): void {
    this.#draining = true;
    for (const route of this.#routes) route.close();
    this.#endIfDrained();
  }

  /** Ends the migrations under way, too: their VMs keep running where they are. */
  end(): void {
    this.drain();
    const message = 'the relay was ended';
    for (const migration of this.#migrations.values()) {
      migration.abort({ code: 'E_RELAY_ENDED', message });
    }
  }

  #tick(): void {
    this.#giveUpStalled();
    this.#steer();
    this.#ticks++;
    if (this.#migrations.size === 0 || this.#ticks % TICKS_PER_PROGRESS !== 0) return;
    this.#events.onProgress([...this.#migrations.values()].map(({ progress }) => progress));
  }

  #giveUpStalled(): void {
    const now = performance.now();
    const { stallLimitMs } = this.#options;
    for (const migration of this.#migrations.values()) {
      if (migration.stalledMs(now) < stallLimitMs) continue;
      const message = `one side has taken no byte for ${stallLimitMs} ms`;
      migration.abort({ code: 'E_RELAY_STALLED', message });
    }
  }

  #steer(): void {
    const { evacuation } = this.#options;
    if (evacuation === undefined) return;
    const passing = new Map([...this.#migrations].map(([id, migration]) => [id, migration.tick()]));
    const chosen = chooseMigrations(passing, performance.now() - this.#since, evacuation);
    for (const [id, migration] of this.#migrations) {
      if (chosen.has(id)) migration.free();
      else migration.hold();
    }
  }

  #onMigration(migration: Migration): void {
    if (this.#migrations.size === 0) this.#since = performance.now();
    this.#migrations.set(migration.id, migration);
    if (this.#options.evacuation === undefined) migration.free();
    else this.#steer();
  }

  #onOver(migration: Migration, report: MigrationReport): void {
    this.#migrations.delete(migration.id);
    // A client that connects and sends nothing was only looking for an open port.
    const { streamBytes, returnBytes, failure } = report;
    const silent = streamBytes + returnBytes === 0 && failure === undefined;
    if (!silent) this.#events.onReport(report);
    this.#steer();
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (!this.#draining || this.#migrations.size > 0) return;
    clearInterval(this.#timer);
    this.#options.store?.close();
    this.#ended();
  }
}
