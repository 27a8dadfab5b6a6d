/**
 * A virtual cluster of our guests, run with the umbra command as an operator runs it.
 *
 * Every process it starts inherits UMBRA_HOME, a folder of this testbed alone. By that variable it
 * finds and ends what is left, even after parts of the cluster were killed.
 */
import { execFile, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { startTimeOf } from '../../proxy/host/known-process.ts';
import { GuestControl } from '../guest/control.ts';
import { ensureGuestImage } from '../guest/image.ts';
import { findQemus, type QemuBinary } from '../qemu/qemu.ts';
import { accelerator } from '../setup/accel.ts';
import { clusterFile, type FileSections, withCapture } from './cluster-file.ts';
import { type DirtyOptions, dirtyMemory } from './dirty.ts';

/** The output and the exit status of a command. */
export interface CommandEnd {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestbedOptions {
  readonly nodes: number;
  /** MiB of RAM: one number for all VMs, or one for each. */
  readonly memoryMiB?: number | readonly number[];
  /** Default: the first QEMU found. */
  readonly qemu?: QemuBinary | undefined;
  readonly settings?: FileSections;
  /** Gives every VM a second monitor, `watch.sock` in the member's folder. */
  readonly watch?: boolean;
  /** Further arguments of QEMU, for each VM. */
  readonly more?: readonly string[];
  /** Gives each VM a disk in the testbed's folder: the text after that folder in `-drive file=`. */
  readonly disk?: string;
  /** Time limit for the boot of all guests, milliseconds. */
  readonly bootMs?: number;
}

/** Limits for slow machines: they only end commands that would never end. */
const COMMAND_LIMIT_MS = 600_000;
const BOOT_LIMIT_MS = 600_000;
/** Long enough for an emulated processor to fill gigabytes. */
const FILL_LIMIT_MS = 1_800_000;
const CLUSTER = 'demo';
const LAST_WORDS_BYTES = 1_000;

export class Testbed {
  readonly home: string;
  readonly file: string;
  readonly nodes: number;
  readonly qemu: QemuBinary;
  /** The cluster.yaml as it was first written, parsed. */
  readonly #plain: object;
  readonly #controls = new Map<number, GuestControl>();
  readonly #onExit = () => this.sweep();

  /** Writes cluster.yaml in a folder of its own on tmpfs; starts nothing. */
  static async create(options: TestbedOptions): Promise<Testbed> {
    const image = await ensureGuestImage();
    const qemu = options.qemu ?? (await findQemus())[0];
    if (qemu === undefined) throw new Error('no QEMU found; run: node tools/setup/bootstrap.mjs');
    const accel = await accelerator({ qemu, image });
    const { nodes, memoryMiB = 256, settings, watch = false, disk } = options;
    const home = mkdtempSync('/dev/shm/umbra-bed-');
    chmodSync(home, 0o700);
    const drive = disk === undefined ? [] : ['-drive', `file=${home}${disk}`];
    const more = [...(options.more ?? []), ...drive];
    const cluster = CLUSTER;
    const about = { cluster, nodes, memoryMiB, qemu, image, accel, settings, watch, more };
    return new Testbed(home, clusterFile(about), nodes, qemu);
  }

  /** Makes a folder for VMs of the caller's own, and the umbra command for it; starts nothing. */
  static empty(qemu: QemuBinary): Testbed {
    const home = mkdtempSync('/dev/shm/umbra-bed-');
    chmodSync(home, 0o700);
    return new Testbed(home, '', 0, qemu);
  }

  private constructor(home: string, text: string, nodes: number, qemu: QemuBinary) {
    this.home = home;
    this.file = join(this.home, 'cluster.yaml');
    this.nodes = nodes;
    this.qemu = qemu;
    this.#plain = parse(text) as object;
    writeFileSync(this.file, text);
    process.on('exit', this.#onExit);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      if (!process.listeners(signal).includes(exitOnSignal)) process.on(signal, exitOnSignal);
    }
  }

  /** Returns the cluster's own folder. */
  get directory(): string {
    return join(this.home, CLUSTER);
  }

  /** Returns the folder with a VM's sockets. */
  memberDirectory = (node: number): string => join(this.directory, 'vm', `n${node}`);

  /** Returns the file with the fault points to freeze at (proxy/failure/fault-point.ts). */
  get stopAt(): string {
    return join(this.home, 'stop-at');
  }

  /** Restarts the daemon with other settings while the VMs keep running. */
  async reconfigure(settings: FileSections): Promise<void> {
    const given = settings.round !== undefined ? withCapture(settings) : settings;
    writeFileSync(this.file, stringify({ ...this.#plain, ...given }));
    await this.json('down', '--keep-vms');
    await this.json('up', this.file);
  }

  /** Runs the umbra command. Never rejects for an exit status. */
  umbra(...args: readonly string[]): Promise<CommandEnd> {
    return this.run(...umbraCommand(), ...args);
  }

  run(program: string, ...args: readonly string[]): Promise<CommandEnd> {
    const env = {
      ...process.env,
      UMBRA_HOME: this.home,
      UMBRA_STOP_AT: this.stopAt,
    };
    const options = { env, timeout: COMMAND_LIMIT_MS, maxBuffer: 64 * 2 ** 20 };
    return new Promise((resolve) => {
      execFile(program, args, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      });
    });
  }

  /** Runs the umbra command with our own terminal. @throws Error if it fails */
  async show(...args: readonly string[]): Promise<void> {
    const [program, ...words] = umbraCommand();
    const env = { ...process.env, UMBRA_HOME: this.home };
    const child = spawn(program, [...words, ...args], { env, stdio: 'inherit' });
    const code = await new Promise((resolve) => child.once('close', resolve));
    if (code !== 0) throw new Error(`umbra ${args.join(' ')}: status ${code}`);
  }

  /** Runs the umbra command with --json and parses its answer. @throws Error if it fails */
  async json<T>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.umbra(...args, '--json');
    const last = stdout.trim().split('\n').at(-1) ?? '';
    if (code !== 0) throw new Error(`umbra ${args.join(' ')}: status ${code}: ${last} ${stderr}`);
    return JSON.parse(last) as T;
  }

  /** Runs `umbra up`, then waits until every guest answers. */
  async up(bootMs = BOOT_LIMIT_MS): Promise<void> {
    await this.json('up', this.file);
    await Promise.all(
      Array.from({ length: this.nodes }, async (_, node) => {
        await (await this.guest(node)).waitBoot({ timeoutMs: bootMs });
      }),
    );
  }

  /** Returns the control channel of a guest; after hangUp() it is connected anew. */
  async guest(node: number): Promise<GuestControl> {
    const known = this.#controls.get(node);
    if (known !== undefined) return known;
    const folder = this.memberDirectory(node);
    const explain = () => this.lastWords(node);
    const control = await GuestControl.connect(join(folder, 'control.sock'), { explain });
    this.#controls.set(node, control);
    return control;
  }

  /** Returns the end of a VM's log and of its guest's console, for error messages. */
  lastWords(node: number): string {
    const folder = this.memberDirectory(node);
    return ['vm.log', 'console.log']
      .map((name) => {
        const path = join(folder, name);
        const words = existsSync(path) ? readFileSync(path, 'latin1').slice(-LAST_WORDS_BYTES) : '';
        return `\n${name}: ${words}`;
      })
      .join('');
  }

  /** Closes the control channels: their QEMUs have ended. */
  hangUp(): void {
    for (const control of this.#controls.values()) control.close();
    this.#controls.clear();
  }

  async shell(node: number, command: string): Promise<string> {
    const { output, exitCode } = await (await this.guest(node)).run(command);
    if (exitCode !== 0) throw new Error(`n${node}: ${command}: status ${exitCode}: ${output}`);
    return output;
  }

  /**
   * Starts a process in a guest that rewrites memory all the time (dirty.ts). Resolves when all of
   * it has been written once.
   */
  async dirty(node: number, options: DirtyOptions): Promise<void> {
    const guest = await this.guest(node);
    const { output, exitCode } = await guest.run(dirtyMemory(options), {
      timeoutMs: FILL_LIMIT_MS,
    });
    if (exitCode === 0) return;
    throw new Error(`n${node} does not write to ${options.sizeMiB} MiB: ${output}`);
  }

  pid(node: number): number {
    const card = readFileSync(join(this.memberDirectory(node), 'vm.json'), 'utf8');
    return (JSON.parse(card) as { pid: number }).pid;
  }

  /** Kills every QEMU at once with SIGKILL; returns when they have ended and closed their files. */
  killAll(): void {
    this.hangUp();
    const pids = Array.from({ length: this.nodes }, (_, node) => this.pid(node));
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    while (pids.some((pid) => startTimeOf(pid) !== undefined));
  }

  /** Returns the processes of this testbed that still exist, by pid, with command lines. */
  processes(): Map<number, string> {
    const found = new Map<number, string>();
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        if (!environment.includes(`UMBRA_HOME=${this.home}`)) continue;
        found.set(pid, readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
      } catch {
        // the process has ended, or we may not read it
      }
    }
    return found;
  }

  /** Ends the cluster with `umbra down`, then kills what is left. Idempotent. */
  async dispose(): Promise<void> {
    this.hangUp();
    if (existsSync(this.directory)) await this.umbra('down', '--purge');
    this.sweep();
    process.off('exit', this.#onExit);
  }

  /** Kills every process of this testbed with SIGKILL and removes its folder. */
  sweep(): void {
    for (const pid of this.processes().keys()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone already
      }
    }
    // A process that is being killed may still make a file: retry.
    rmSync(this.home, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Returns the umbra command: the built one if there is one, as it is shipped, else the source. */
export function umbraCommand(): [string, ...string[]] {
  const built = fileURLToPath(new URL('../../dist/tools/cli/main.js', import.meta.url));
  if (existsSync(built)) return [process.execPath, built];
  const source = fileURLToPath(new URL('../cli/main.ts', import.meta.url));
  return [process.execPath, '--import', 'tsx', source];
}

function exitOnSignal(): void {
  process.exit(130);
}
