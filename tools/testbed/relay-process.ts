/** An `umbra relay` as an operator runs it, in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { MigrationReport } from '../../proxy/relay/report.ts';
import { umbraCommand } from './testbed.ts';

const START_LIMIT_MS = 300_000;

export class RelayProcess {
  readonly #child: ChildProcess;
  readonly #reports: MigrationReport[] = [];
  readonly #notes: [name: string, note: string][] = [];
  readonly #lines: Interface;
  #wake: () => void = () => {};

  /**
   * Starts a relay; resolves when it listens. Its sockets are open to every user that may enter
   * their folder.
   */
  static start(...args: readonly string[]): Promise<RelayProcess> {
    return RelayProcess.startWith({}, ...args);
  }

  /** @param environment variables added to our own */
  static async startWith(
    environment: NodeJS.ProcessEnv,
    ...args: readonly string[]
  ): Promise<RelayProcess> {
    const env = { ...process.env, ...environment };
    const script = 'umask 000; exec "$@"';
    const words = ['-c', script, 'sh', ...umbraCommand(), 'relay', '--json', ...args];
    const child = spawn('sh', words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const relay = new RelayProcess(child);
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), START_LIMIT_MS);
    try {
      await Promise.race([
        once(relay.#lines, 'line'),
        once(child, 'exit').then(() => Promise.reject(new Error(`no relay: ${said}`))),
      ]);
    } finally {
      clearTimeout(timer);
    }
    return relay;
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('its output is piped');
    this.#lines = createInterface(child.stdout);
    this.#lines.on('line', (line) => {
      const report = JSON.parse(line) as Partial<MigrationReport> & { readonly note?: string };
      if (report.note !== undefined) this.#notes.push([report.name ?? '', report.note]);
      if (report.migration !== undefined) this.#reports.push(report as MigrationReport);
      this.#wake();
    });
    process.once('exit', this.#onExit);
  }

  readonly #onExit = () => this.#child.kill('SIGKILL');

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Returns the largest resident memory so far, bytes (VmHWM). */
  get peakBytes(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  /** Waits for `count` reports; returns them in the order in which the migrations ended. */
  async reports(count: number): Promise<readonly MigrationReport[]> {
    while (this.#reports.length < count) {
      if (this.#child.exitCode !== null) throw new Error('the relay has ended');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#child.once('exit', () => resolve());
      });
    }
    return this.#reports;
  }

  /** Ends the relay with SIGTERM. @returns its notes, by the names of their routes */
  async end(): Promise<Readonly<Record<string, string>>> {
    const ended = once(this.#lines, 'close');
    this.#child.kill('SIGTERM');
    await ended;
    return Object.fromEntries(this.#notes);
  }

  /** Kills the relay, whatever migrations are under way. Idempotent. */
  async kill(): Promise<void> {
    process.off('exit', this.#onExit);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
