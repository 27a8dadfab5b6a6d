/**
 * The relay: routes side by side, the migrations on them, and who is told about those.
 *
 *     OPEN ──drain──▶ DRAINING ──the last migration is over──▶ ENDED
 *       └──────────────┴──end──▶ every migration is reset ───────▲
 */
import { UmbraError } from '../failure.ts';
import type { Migration } from './migration.ts';
import type { MigrationProgress, MigrationReport } from './report.ts';
import { Route, type RouteTerms } from './route.ts';

export interface RelayTerms {
  readonly routes: readonly RouteTerms[];
  /** A side that takes none of the bytes that wait for it for so long is given up, milliseconds. */
  readonly stallLimitMs: number;
}

export interface RelayEvents {
  /** Every half second, while there are migrations. */
  readonly onProgress: (migrations: readonly MigrationProgress[]) => void;
  readonly onReport: (report: MigrationReport) => void;
}

const LOOK_INTERVAL_MS = 500;

export class Relay {
  readonly #terms: RelayTerms;
  readonly #events: RelayEvents;
  readonly #routes: Route[] = [];
  #looks: NodeJS.Timeout | undefined;
  #draining = false;
  #ended: () => void = () => {};
  /** Resolves when it has drained. */
  readonly over = new Promise<void>((resolve) => {
    this.#ended = resolve;
  });

  /** @throws UmbraError E_RELAY_LISTEN; nothing listens then */
  static async open(terms: RelayTerms, events: RelayEvents): Promise<Relay> {
    const relay = new Relay(terms, events);
    try {
      for (const route of terms.routes) {
        const opened = await Route.open(route, {
          onMigration: () => {},
          onOver: (_, report) => relay.#onOver(report),
        });
        relay.#routes.push(opened);
      }
    } catch (error) {
      relay.drain();
      throw error;
    }
    relay.#looks = setInterval(() => relay.#look(), LOOK_INTERVAL_MS);
    return relay;
  }

  private constructor(terms: RelayTerms, events: RelayEvents) {
    this.#terms = terms;
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
    for (const migration of this.#migrations) migration.abort({ code: 'E_RELAY_ENDED', message });
  }

  get #migrations(): Migration[] {
    return this.#routes.flatMap(({ migrations }) => [...migrations]);
  }

  #look(): void {
    const now = performance.now();
    const { stallLimitMs } = this.#terms;
    for (const migration of this.#migrations) {
      if (migration.stalledMs(now) < stallLimitMs) continue;
      const message = `one side has taken no byte for ${stallLimitMs} ms`;
      migration.abort(new UmbraError({ code: 'E_RELAY_STALLED', message }).failure);
    }
    const migrations = this.#migrations;
    if (migrations.length > 0) this.#events.onProgress(migrations.map(({ progress }) => progress));
  }

  #onOver(report: MigrationReport): void {
    // Who connects and says nothing was looking for an open port.
    const { streamBytes, returnBytes, failure } = report;
    const silent = streamBytes + returnBytes === 0 && failure === undefined;
    if (!silent) this.#events.onReport(report);
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (!this.#draining || this.#migrations.length > 0) return;
    clearInterval(this.#looks);
    this.#ended();
  }
}
