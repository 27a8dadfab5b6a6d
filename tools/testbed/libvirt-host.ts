/**
 * A libvirtd of our own, in session mode, that takes itself for a host: a folder with everything it
 * keeps, run as a user without rights, since root would get system mode.
 *
 *     FOLDER/run/libvirt/libvirt-sock     its socket
 *     FOLDER/{config,cache,data,home}     what XDG and libvirt put there
 *
 * QEMUs it starts outlive it, and know our folder by their environment: that is how they are found.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { CommandEnd } from './testbed.ts';

/** Whom libvirtd, virsh and QEMU run as when we are root. */
const NOBODY = 65_534;
const START_LIMIT_MS = 300_000;
const VIRSH_LIMIT_MS = 600_000;

export interface HostFolders {
  /** Its own; must not exist. Short: sockets are far down in it. */
  readonly directory: string;
  /** Where its destination's side of a migration listens. */
  readonly ports: { readonly first: number; readonly last: number };
  /** Folder of certificates for migrations in TLS. */
  readonly certificates: string;
  /** What comes before libvirtd's command line: a namespace to enter, say. Only for root. */
  readonly within?: readonly string[];
}

export class LibvirtHost {
  readonly directory: string;
  readonly #within: readonly string[];
  #daemon: ChildProcess | undefined;

  static async start(location: HostFolders): Promise<LibvirtHost> {
    const host = new LibvirtHost(location);
    await host.startDaemon();
    return host;
  }

  private constructor({ directory, ports, certificates, within = [] }: HostFolders) {
    this.directory = directory;
    this.#within = within;
    for (const folder of ['', 'run', 'home', 'cache', 'data', 'config', 'config/libvirt']) {
      ownFolder(join(directory, folder));
    }
    const config = (name: string, lines: readonly string[]) =>
      writeFileSync(join(directory, 'config/libvirt', name), `${lines.join('\n')}\n`);
    config('libvirtd.conf', [`host_uuid = "${randomUUID()}"`]);
    config('qemu.conf', [
      'security_driver = "none"',
      'stdio_handler = "file"',
      `migration_port_min = ${ports.first}`,
      `migration_port_max = ${ports.last}`,
      `migrate_tls_x509_cert_dir = "${certificates}"`,
      'migrate_tls_x509_verify = 1',
    ]);
  }

  get socket(): string {
    return join(this.directory, 'run/libvirt/libvirt-sock');
  }

  get uri(): string {
    return `qemu+unix:///session?socket=${this.socket}`;
  }

  /** Resolves when it listens. */
  async startDaemon(): Promise<void> {
    const folder = dirname(this.socket);
    ownFolder(folder);
    rmSync(this.socket, { force: true }); // one that was killed leaves it
    const there = new AbortController();
    const seen = (async () => {
      for await (const _ of watchUntil(folder, there.signal)) if (existsSync(this.socket)) return;
    })();
    const [program = '', ...args] = [...this.#within, ...asNobody(), 'libvirtd'];
    const daemon = spawn(program, args, {
      env: this.#environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#daemon = daemon;
    let complaint = '';
    daemon.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-4096);
    });
    const ended = new Promise<never>((_, reject) => {
      const why = () => reject(new Error(`libvirtd did not start: ${complaint}`));
      daemon.once('exit', why).once('error', reject);
    });
    ended.catch(() => {}); // it ends some day
    const timer = setTimeout(() => daemon.kill('SIGKILL'), START_LIMIT_MS);
    try {
      await Promise.race([seen, ended]);
    } finally {
      clearTimeout(timer);
      there.abort();
    }
  }

  /** SIGKILL to libvirtd alone; its QEMUs run on. */
  async killDaemon(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill('SIGKILL');
    await ended;
  }

  /** Runs a virsh command against this host, for no longer than a limit. */
  virsh(args: readonly string[], limitMs = VIRSH_LIMIT_MS): Promise<CommandEnd> {
    const [program = '', ...words] = [...asNobody(), 'virsh', '-q', '-c', this.uri, ...args];
    const options = { env: this.#environment, timeout: limitMs, maxBuffer: 64 * 2 ** 20 };
    return new Promise((resolve) => {
      execFile(program, words, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout: stdout.trim(), stderr: stderr.trim() });
      });
    });
  }

  /** What virsh says. @throws Error if it fails */
  async ask(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.virsh(args);
    if (code !== 0) throw new Error(`virsh ${args.join(' ')}: status ${code}: ${stderr}`);
    return stdout;
  }

  /** Defines nothing: the domain is gone when it ends. @throws Error */
  async create(xml: string): Promise<void> {
    const file = join(this.directory, 'domain.xml');
    writeFileSync(file, xml, { mode: 0o644 });
    await this.ask('create', file);
  }

  /** Every process that was started here and still lives. */
  processes(): number[] {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => Number.isInteger(pid) && pid !== process.pid && this.#isOurs(pid));
  }

  /** The QEMU of a domain. @throws Error if there is none */
  qemuPid(domain: string): number {
    const found = this.processes().find((pid) => {
      return procText(pid, 'cmdline').includes(`guest=${domain},`);
    });
    if (found === undefined) throw new Error(`no QEMU of ${domain} here`);
    return found;
  }

  /** The hard way, and idempotent. The folder is its maker's to remove. */
  sweep(): void {
    this.#daemon?.kill('SIGKILL');
    for (const pid of this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone already
      }
    }
  }

  get #environment(): NodeJS.ProcessEnv {
    const at = (name: string) => join(this.directory, name);
    return {
      PATH: process.env.PATH,
      LC_ALL: 'C',
      HOME: at('home'),
      XDG_RUNTIME_DIR: at('run'),
      XDG_CONFIG_HOME: at('config'),
      XDG_CACHE_HOME: at('cache'),
      XDG_DATA_HOME: at('data'),
    };
  }

  /** libvirt hands HOME and XDG variables on to QEMU, with folders below of its own. */
  #isOurs(pid: number): boolean {
    return procText(pid, 'environ').includes(`=${this.directory}/`);
  }
}

function procText(pid: number, name: 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // it went away, or is not ours
  }
}

/** Made if it is not there, and given to whom libvirtd runs as. */
export function ownFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (isRoot()) chownSync(path, NOBODY, NOBODY);
}

/** What comes before a command that libvirt's user is to run. */
export function asNobody(): string[] {
  if (!isRoot()) return [];
  return ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Once at the beginning, then whenever something in the folder changes. */
async function* watchUntil(folder: string, signal: AbortSignal): AsyncGenerator<void> {
  let wake: () => void = () => {};
  const watcher = watch(folder, () => wake());
  try {
    while (!signal.aborted) {
      const changed = new Promise<void>((resolve) => {
        wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      yield;
      await changed;
    }
  } finally {
    watcher.close();
  }
}
