/**
 * A process that runs one test file after another (worker.ts), seen from its parent.
 *
 * Its output goes to a file, not through a pipe: what was written before a test file was over is
 * there when the parent hears that it is over, so it is known which test file wrote what.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileResult, readOutcome } from './outcome.ts';

/** The program of a process that runs test files. */
export interface Worker {
  readonly path: string;
  /** Words before it on Node's command line. */
  readonly execArgv: readonly string[];
}

const WORKER: Worker = {
  path: fileURLToPath(new URL('worker.ts', import.meta.url)),
  execArgv: ['--import', 'tsx/esm'],
};

interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class TestProcess {
  readonly #child: ChildProcess;
  readonly #exit: Promise<Exit>;
  readonly #output: number;
  #bytesRead = 0;
  #isUsable = true;

  private constructor(child: ChildProcess, output: number) {
    this.#child = child;
    this.#output = output;
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
  }

  /** Starts one, and returns when it waits for its first file, or has ended. */
  static async start(worker: Worker = WORKER): Promise<TestProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'umbra-tests-'));
    const output = openSync(join(folder, 'output'), 'a+');
    rmSync(folder, { recursive: true });
    const child = fork(worker.path, {
      // A process group of its own: what a test file has started is killed with it.
      detached: true,
      execArgv: [...worker.execArgv],
      env: { ...process.env, FORCE_COLOR: '0' },
      stdio: ['ignore', output, output, 'ipc'],
    });
    const started = new TestProcess(child, output);
    await Promise.race([started.#message(), started.#exit]);
    return started;
  }

  /** Returns whether it can run another file: a failed one may leave anything behind. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /**
   * Runs a test file. One at a time.
   *
   * @param path absolute path of the file
   * @param limitMs time after which the process and all that it started are killed, ms
   */
  async run(path: string, limitMs: number): Promise<FileResult> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#kill();
    }, limitMs);
    const over = this.#message();
    // If the process has ended, its exit says so; the error of the channel says nothing more.
    this.#child.send(path, () => {});
    const ending = await Promise.race([over, this.#exit]);
    clearTimeout(timer);
    const output = this.#takeOutput();
    if (typeof ending === 'number') {
      const outcome = readOutcome(output, ending);
      this.#isUsable = outcome.failed === 0;
      return { outcome, output, why: undefined };
    }
    this.#isUsable = false;
    this.#kill();
    const exit = `its process ended: ${ending.signal ?? `exit code ${ending.code}`}`;
    const why = isLate ? `stopped after ${limitMs / 1000} s` : exit;
    return { outcome: readOutcome(output, null), output, why };
  }

  /**
   * Ends it, and returns when its exit handlers have run.
   *
   * @param limitMs time after which it is killed, ms
   */
  async end(limitMs: number): Promise<void> {
    const timer = setTimeout(() => this.#kill(), limitMs);
    if (this.#child.connected) this.#child.disconnect();
    await this.#exit;
    clearTimeout(timer);
    closeSync(this.#output);
  }

  #message(): Promise<number> {
    return new Promise((resolve) => {
      this.#child.once('message', (code) => resolve(Number(code)));
    });
  }

  #takeOutput(): string {
    const bytes = Buffer.alloc(fstatSync(this.#output).size - this.#bytesRead);
    const length = readSync(this.#output, bytes, 0, bytes.length, this.#bytesRead);
    this.#bytesRead += length;
    return bytes.toString('utf8', 0, length);
  }

  /** Kills its process group, in which something may have outlived it. */
  #kill(): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
