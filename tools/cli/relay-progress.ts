/** Migrations as they go by: a bar each on a terminal, a line a second otherwise. */
import { MultiBar, type SingleBar } from 'cli-progress';
import type { MigrationProgress } from '../../proxy/relay/report.ts';
import { bytes, duration } from './output.ts';

const LINE_INTERVAL_MS = 1000;
/** A share is shown in so many parts. */
const PARTS = 1000;

export interface RelayView {
  show(migrations: readonly MigrationProgress[]): void;
  over(migration: string): void;
  stop(): void;
}

export function relayView(stream: NodeJS.WriteStream, quiet: boolean): RelayView {
  if (quiet) return { show: () => {}, over: () => {}, stop: () => {} };
  return stream.isTTY ? new Bars(stream) : new Lines(stream);
}

class Bars implements RelayView {
  readonly #multi: MultiBar;
  readonly #bars = new Map<string, SingleBar>();

  constructor(stream: NodeJS.WriteStream) {
    this.#multi = new MultiBar({
      stream,
      format: '  {name} {bar} {progress}',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
    });
  }

  show(migrations: readonly MigrationProgress[]): void {
    for (const one of migrations) {
      const payload = { name: one.name, progress: progressText(one) };
      const bar = this.#bars.get(one.migration) ?? this.#multi.create(PARTS, 0, payload);
      this.#bars.set(one.migration, bar);
      bar.update(Math.floor((one.share ?? 0) * PARTS), payload);
    }
  }

  over(migration: string): void {
    const bar = this.#bars.get(migration);
    if (bar !== undefined) this.#multi.remove(bar);
    this.#bars.delete(migration);
  }

  stop(): void {
    this.#multi.stop();
  }
}

class Lines implements RelayView {
  readonly #stream: NodeJS.WriteStream;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  show(migrations: readonly MigrationProgress[]): void {
    const now = performance.now();
    if (now - this.#lastAt < LINE_INTERVAL_MS) return;
    this.#lastAt = now;
    const lines = migrations.map((one) => `  ${one.name} ${progressText(one)}\n`);
    this.#stream.write(lines.join(''));
  }

  over(): void {}

  stop(): void {}
}

/** Returns share, rate, and the time until all memory has been sent once. */
function progressText(progress: MigrationProgress): string {
  const { share, streamBytes, bytesPerSecond, etaMs } = progress;
  const parts = [bytes(streamBytes), `${bytes(bytesPerSecond)}/s`];
  if (share !== undefined) parts.unshift(`${Math.floor(share * 100)}% of RAM sent once`);
  if (etaMs !== undefined && etaMs > 0) parts.push(`all of it in ${duration(etaMs)}`);
  return parts.join(' · ');
}
