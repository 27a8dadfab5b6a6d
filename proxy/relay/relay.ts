/**
 * The relay: routes side by side, the migrations on them, and who is told about those.
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
  /** A side that takes none of the bytes that wait for it for so long is given up, milliseconds. */
  readonly stallLimitMs: number;
  /** Whose turn it is; undefined: all flow at once. */
  readonly evacuation: EvacuationPolicy | undefined;
  /** At once, on a route; by default what a migration may have. */
  readonly connectionsMax?: number;
  /** Keeps a shadow of each VM that goes by; it is ours to close. */
  readonly keeper: RelayStore | undefined;
}

export interface RelayEvents {
  /** Every half second, while there are migrations. */
  readonly onProgress: (migrations: readonly MigrationProgress[]) => void;
  readonly onReport: (report: MigrationReport) => void;
}

const LOOK_INTERVAL_MS = 50;
/** Progress is told at every so many looks. */
const LOOKS_PER_PROGRESS = 10;

export class Relay {
  readonly #options: RelayOptions;
  readonly #events: RelayEvents;
  readonly #routes: Route[] = [];
  /** In the order in which they came. */
  readonly #migrations = new Map<string, Migration>();
  /** When the first of those there are came, by performance.now(). */
  #since = 0;
  #timer: NodeJS.Timeout | undefined;
  #looks = 0;
  #draining = false;
  #ended: () => void = () => {};
  /** Resolves when it has drained. */
  readonly over = new Promise<void>((resolve) => {
    this.#ended = resolve;
  });

  /** @throws UmbraError E_RELAY_LISTEN; nothing listens then */
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
    relay.#timer = setInterval(() => relay.#look(), LOOK_INTERVAL_MS);
    return relay;
  }

  private constructor(options: RelayOptions, events: RelayEvents) {
    this.#options = options;
    this.#events = events;
  }

  /** Takes no new migrations; those under way go on to their end. Idempotent. */
  drain(): void {
    this.#draining = true;
    for (const route of this.#routes) route.close();
    this.#endIfDrained();
  }

  /** Ends the migrations that are under way, too: their VMs run on where they are. */
  end(): void {
    this.drain();
    const message = 'the relay was ended';
    for (const migration of this.#migrations.values()) {
      migration.abort({ code: 'E_RELAY_ENDED', message });
    }
  }

  #look(): void {
    this.#giveUpStalled();
    this.#steer();
    this.#looks++;
    if (this.#migrations.size === 0 || this.#looks % LOOKS_PER_PROGRESS !== 0) return;
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
    const passing = new Map([...this.#migrations].map(([id, migration]) => [id, migration.look()]));
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
    // Who connects and says nothing was looking for an open port.
    const { streamBytes, returnBytes, failure } = report;
    const silent = streamBytes + returnBytes === 0 && failure === undefined;
    if (!silent) this.#events.onReport(report);
    this.#steer();
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (!this.#draining || this.#migrations.size > 0) return;
    clearInterval(this.#timer);
    this.#options.keeper?.close();
    this.#ended();
  }
}
