/**
 * A private libvirtd in session mode that stands for one host. It keeps its files in one folder. It
 * runs as an unprivileged user, because libvirtd run by root is in system mode.
 *
 *     FOLDER/run/libvirt/libvirt-sock     its socket
 *     FOLDER/{config,cache,data,home}     folders of XDG and libvirt
 *
 * QEMUs it starts outlive it. They are found by their environment, which contains this folder.
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

/** Unix user and group `nobody`: libvirtd, virsh and QEMU run as it when we are root. */
const UNPRIVILEGED_ID = 65_534;
const START_LIMIT_MS = 300_000;
const VIRSH_LIMIT_MS = 600_000;

export interface HostFolders {
  /** The host's own folder; must not exist. Short: paths of sockets in it are limited. */
  readonly directory: string;
  /** Ports on which incoming migrations listen. */
  readonly ports: { readonly first: number; readonly last: number };
  /** Folder of certificates for migrations with TLS. */
  readonly certificates: string;
  /** Prefix of libvirtd's command line, such as one that enters a namespace. Only for root. */
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

  /** Starts libvirtd; resolves when it listens on its socket. */
  async startDaemon(): Promise<void> {
    const folder = dirname(this.socket);
    ownFolder(folder);
    rmSync(this.socket, { force: true }); // a killed libvirtd leaves its socket
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
    ended.catch(() => {}); // it also rejects when libvirtd ends much later
    const timer = setTimeout(() => daemon.kill('SIGKILL'), START_LIMIT_MS);
    try {
      await Promise.race([seen, ended]);
    } finally {
      clearTimeout(timer);
      there.abort();
    }
  }

  /** Kills libvirtd alone with SIGKILL; its QEMUs keep running. */
  async killDaemon(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill('SIGKILL');
    await ended;
  }

  /** Runs a virsh command on this host and kills it after `limitMs`. Never rejects. */
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

  /** Returns the output of a virsh command. @throws Error if it fails */
  async ask(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.virsh(args);
    if (code !== 0) throw new Error(`virsh ${args.join(' ')}: status ${code}: ${stderr}`);
    return stdout;
  }

  /** Starts a transient domain, which libvirt forgets when it ends. @throws Error */
  async create(xml: string): Promise<void> {
    const file = join(this.directory, 'domain.xml');
    writeFileSync(file, xml, { mode: 0o644 });
    await this.ask('create', file);
  }

  /** Returns the processes of this host that still exist: libvirtd, QEMUs and their children. */
  processes(): number[] {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => Number.isInteger(pid) && pid !== process.pid && this.#isOurs(pid));
  }

  /** Returns the pid of a domain's QEMU. @throws Error if there is none */
  qemuPid(domain: string): number {
    const found = this.processes().find((pid) => {
      return procText(pid, 'cmdline').includes(`guest=${domain},`);
    });
    if (found === undefined) throw new Error(`no QEMU of ${domain} here`);
    return found;
  }

  /** Kills every process of this host with SIGKILL. Idempotent; leaves the folder to the caller. */
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

  /** Returns true for our processes: libvirt gives QEMU HOME and XDG folders below ours. */
  #isOurs(pid: number): boolean {
    return procText(pid, 'environ').includes(`=${this.directory}/`);
  }
}

function procText(pid: number, name: 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // the process has ended, or we may not read it
  }
}

/** Makes a folder if it is missing and gives it to the user that libvirtd runs as. */
export function ownFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (isRoot()) chownSync(path, UNPRIVILEGED_ID, UNPRIVILEGED_ID);
}

/** Returns the prefix of a command that has to run as libvirtd's user; empty without root. */
export function asNobody(): string[] {
  if (!isRoot()) return [];
  const id = UNPRIVILEGED_ID;
  return ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups'];
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Yields once at the beginning, then whenever something in the folder changes. */
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
