import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Switch } from '../../proxy/switch/switch.ts';
import { GUEST_FILES, guestCommandLine } from '../../tools/guest/command-line.ts';
import { GuestControl } from '../../tools/guest/control.ts';
import { ensureGuestImage } from '../../tools/guest/image.ts';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { accelerator } from '../../tools/setup/accel.ts';
import { GuestQmp } from './guest-qmp.ts';

/** Default limit for booting: all guests at once, emulated, on one slow processor. */
const BOOT_LIMIT_MS = 600_000;

export interface GuestClusterOptions {
  readonly nodes: number;
  readonly memoryMiB?: number;
  /** Default: the first of `findQemus()`. */
  readonly qemu?: QemuBinary;
  /** Limit for booting all of them. */
  readonly bootMs?: number;
}

export interface GuestNode {
  readonly process: ChildProcess;
  readonly control: GuestControl;
  /** Runtime folder of the guest, with the sockets named in `GUEST_FILES`. */
  readonly dir: string;
}

/**
 * Real guests on an in-process switch, in a folder of their own under the system's temporary one.
 * `close()` takes everything down; should the test process end without it, an exit hook does.
 */
export class GuestCluster {
  readonly dir: string;
  readonly switch: Switch;
  readonly nodes: GuestNode[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #commandLines: string[][] = [];
  readonly #onExit = () => this.#kill();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    this.#kill();
    process.kill(process.pid, signal);
  };

  private constructor(nodes: number) {
    this.dir = mkdtempSync(join(tmpdir(), 'umbra-guest-'));
    const dirs = Array.from({ length: nodes }, (_, node) => this.#nodeDir(node));
    this.switch = new Switch(dirs.map((dir) => join(dir, GUEST_FILES.net)));
    process.once('exit', this.#onExit);
    process.once('SIGTERM', this.#onSignal).once('SIGINT', this.#onSignal);
  }

  /** Resolves when every guest answers. Takes all down again if one does not. */
  static async boot(options: GuestClusterOptions): Promise<GuestCluster> {
    const image = await ensureGuestImage();
    const [system] = await findQemus();
    const qemu = options.qemu ?? system;
    if (qemu === undefined) throw new Error('no QEMU here: node tools/setup/bootstrap.mjs');
    const accel = await accelerator({ qemu, image });
    const cluster = new GuestCluster(options.nodes);
    try {
      cluster.switch.start();
      const { nodes, memoryMiB = 192 } = options;
      for (let node = 0; node < nodes; node++) {
        const dir = cluster.#nodeDir(node);
        mkdirSync(dir);
        const machine = { qemu, image, accel, memoryMiB, node, nodes, dir };
        cluster.#commandLines[node] = guestCommandLine(machine);
        cluster.#spawn(node);
      }
      const { bootMs = BOOT_LIMIT_MS } = options;
      await Promise.all(cluster.#children.map((_, node) => cluster.#connect(node)));
      await Promise.all(cluster.nodes.map((node) => node.control.waitBoot({ timeoutMs: bootMs })));
      return cluster;
    } catch (error) {
      const consoles = Array.from({ length: options.nodes }, (_, node) => cluster.#console(node));
      await cluster.close();
      throw new Error(`guests did not boot:\n${consoles.join('\n')}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    for (const node of this.nodes) node.control.close();
    this.switch.close();
    const ended = this.#children
      .filter((child) => child.exitCode === null && child.signalCode === null)
      .map((child) => once(child, 'exit'));
    this.#kill();
    await Promise.all(ended);
    process.removeListener('exit', this.#onExit);
    process.removeListener('SIGTERM', this.#onSignal).removeListener('SIGINT', this.#onSignal);
  }

  #nodeDir(node: number): string {
    return join(this.dir, `n${node}`);
  }

  /** Kills a guest and starts it from a saved state, as another process with the same sockets. */
  async restore(node: number, file: string): Promise<void> {
    const old = this.nodes[node];
    if (old === undefined) throw new Error(`no node ${node}`);
    old.control.close();
    const ended = once(old.process, 'exit');
    old.process.kill('SIGKILL');
    await ended;
    this.#spawn(node, ['-incoming', `exec:cat '${file}'`]);
    await this.#connect(node);
    const qmp = await GuestQmp.connect(join(old.dir, GUEST_FILES.qmp));
    await qmp.resume();
    qmp.close();
    await this.nodes[node]?.control.waitBoot({ timeoutMs: BOOT_LIMIT_MS });
  }

  #spawn(node: number, extra: readonly string[] = []): void {
    const [program = '', ...args] = this.#commandLines[node] ?? [];
    const child = spawn(program, [...args, ...extra], { stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('error', () => {});
    this.#children[node] = child;
  }

  async #connect(node: number): Promise<void> {
    const process = this.#children[node];
    if (process === undefined) throw new Error(`node ${node} was not started`);
    const dir = this.#nodeDir(node);
    const control = await GuestControl.connect(join(dir, GUEST_FILES.control));
    this.nodes[node] = { process, control, dir };
  }

  #console(node: number): string {
    try {
      return `n${node}: ${readFileSync(join(this.#nodeDir(node), GUEST_FILES.console), 'utf8')}`;
    } catch {
      return `n${node}: no console`;
    }
  }

  #kill(): void {
    for (const child of this.#children) child.kill('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true });
  }
}
