/**
 * Two hosts with libvirt on one machine, and the network between them:
 *
 *     host a (ours)                                 host b: network and mount namespaces of its own
 *     libvirtd, QEMUs        10.x.x.1 ── veth ── 10.x.x.2     libvirtd, QEMUs
 *     relay                         cut(), mend()
 *
 *     FOLDER/wire            unix sockets of migrations, under the same path on both hosts; outside
 *                            host b's mount namespace, its sockets are in FOLDER/b-wire
 *     FOLDER/logs/NAME.log   a domain's console: one log on both hosts, appended to
 *
 * Needs root, for the namespaces and to run libvirtd as another user than our own.
 */
import { execFile } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureGuestImage } from '../guest/image.ts';
import { makeCertificates } from './certificates.ts';
import { domainXml, type MemoryFile } from './libvirt-domain.ts';
import { asNobody, isRoot, LibvirtHost, ownFolder } from './libvirt-host.ts';
import { EMULATOR, newestInPlace, withMounts } from './mounts.ts';
import { NetworkLink } from './network-link.ts';
import { newestQemu } from './newest-qemu.ts';
import type { CommandEnd } from './testbed.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const UMBRA_LIMIT_MS = 600_000;

export interface PairDomain {
  readonly name: string;
  readonly memoryMiB?: number;
  /** Memory that the guest rewrites and verifies all the time, MiB. */
  readonly loadMiB?: number;
  readonly memoryFile?: MemoryFile;
  /** Path of a monitor besides libvirt's. */
  readonly monitor?: string;
  /** Gives the guest's agent a port. */
  readonly agent?: boolean;
  /** Makes the guest a node of a cluster on host b, instead of a machine that prints ticks. */
  readonly node?: { readonly index: number; readonly nodes: number };
}

export class LibvirtPair {
  readonly directory: string;
  /** A folder like it on tmpfs. */
  readonly memory: string;
  readonly a: LibvirtHost;
  readonly b: LibvirtHost;
  /** IP addresses of the hosts on the link between them. */
  readonly addressA: string;
  readonly addressB: string;
  readonly #link: NetworkLink;
  readonly #guest: { readonly kernel: string; readonly initrd: string };
  readonly #onExit: () => void;

  static async create(): Promise<LibvirtPair> {
    if (!isRoot()) throw new Error('two libvirt hosts on one machine need root: sudo npm test');
    const image = await ensureGuestImage();
    const qemu = await newestQemu();
    if (qemu === undefined) throw new Error('no QEMU found; run: node tools/setup/bootstrap.mjs');
    const directory = mkdtempSync(join(tmpdir(), 'umbra-lv-'));
    const link = new NetworkLink();
    const onExit = () => {
      link.remove();
      rmSync(directory, { recursive: true, force: true });
    };
    process.once('exit', onExit);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, exitOnSignal);
    chmodSync(directory, 0o755);
    for (const folder of ['wire', 'b-wire', 'logs']) ownFolder(join(directory, folder));
    const newest = newestInPlace(qemu);
    const ports = { first: 49_152, last: 49_215 };
    const hosts: LibvirtHost[] = [];
    try {
      const guest = {
        kernel: shareFile(image.kernel, join(directory, 'vmlinuz')),
        initrd: shareFile(image.initrd, join(directory, 'initrd')),
      };
      link.make();
      const certificates = join(directory, 'tls');
      makeCertificates(certificates, [link.addressA, link.addressB]);
      const common = { ports, certificates };
      const inA = { directory: join(directory, 'a'), within: withMounts(newest) };
      hosts.push(await LibvirtHost.start({ ...common, ...inA }));
      const wire: [string, string] = [join(directory, 'b-wire'), join(directory, 'wire')];
      const enter = ['nsenter', `--net=/run/netns/${link.namespace}`];
      const within = enter.concat(withMounts(newest.concat([wire])));
      hosts.push(await LibvirtHost.start({ ...common, directory: join(directory, 'b'), within }));
      process.off('exit', onExit);
      const [a, b] = hosts as [LibvirtHost, LibvirtHost];
      return new LibvirtPair(directory, { a, b }, link, guest);
    } catch (error) {
      for (const host of hosts) host.sweep();
      process.off('exit', onExit);
      onExit();
      throw error;
    }
  }

  private constructor(
    directory: string,
    { a, b }: { readonly a: LibvirtHost; readonly b: LibvirtHost },
    link: NetworkLink,
    guest: { readonly kernel: string; readonly initrd: string },
  ) {
    this.directory = directory;
    this.memory = mkdtempSync('/dev/shm/umbra-lv-');
    chmodSync(this.memory, 0o755);
    this.a = a;
    this.b = b;
    this.#link = link;
    this.addressA = link.addressA;
    this.addressB = link.addressB;
    this.#guest = guest;
    this.#onExit = () => this.dispose();
    process.once('exit', this.#onExit);
  }

  /** Returns the path of a unix socket on host a, and our path of host b's socket of that name. */
  wire(name: string): { readonly a: string; readonly b: string } {
    return { a: join(this.directory, 'wire', name), b: join(this.directory, 'b-wire', name) };
  }

  console(domain: string): string {
    return join(this.directory, 'logs', `${domain}.log`);
  }

  get #home(): string {
    return join(this.memory, 'umbra');
  }

  /** Returns the file with the fault points to freeze at (proxy/failure/fault-point.ts). */
  get stopAt(): string {
    return join(this.memory, 'stop-at');
  }

  /** Returns the daemons and proxies of `umbra` that still exist, by pid, with command lines. */
  processes(): Map<number, string> {
    const found = new Map<number, string>();
    for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
      try {
        const environment = readFileSync(`/proc/${name}/environ`, 'utf8').split('\0');
        if (!environment.includes(`UMBRA_HOME=${this.#home}`)) continue;
        const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
        found.set(Number(name), commandLine);
      } catch {
        // the process has ended, or we may not read it
      }
    }
    return found;
  }

  /**
   * Runs the umbra command as libvirtd's user. That user cannot read this repository, so it is
   * bind-mounted into the pair's folder.
   */
  umbra(...args: readonly string[]): Promise<CommandEnd> {
    const [program, ...words] = this.#umbra(args);
    const env = { ...process.env, UMBRA_HOME: this.#home, UMBRA_STOP_AT: this.stopAt };
    const options = { env, timeout: UMBRA_LIMIT_MS, maxBuffer: 64 * 2 ** 20 };
    return new Promise((resolve) => {
      execFile(program ?? '', words, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      });
    });
  }

  /** Runs the umbra command with --json and parses its answer. @throws Error if it fails */
  async json<T>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.umbra(...args, '--json');
    const last = stdout.trim().split('\n').at(-1) ?? '';
    if (code !== 0) throw new Error(`umbra ${args.join(' ')}: status ${code}: ${last} ${stderr}`);
    return JSON.parse(last) as T;
  }

  #umbra(args: readonly string[]): string[] {
    const [node, clone] = [join(this.directory, 'node'), join(this.directory, 'clone')];
    if (!existsSync(node)) {
      writeFileSync(node, '');
      mkdirSync(clone);
      ownFolder(this.#home);
    }
    const mounts: [string, string][] = [
      [process.execPath, node],
      [ROOT, clone],
    ];
    const main = join(clone, 'dist/tools/cli/main.js');
    return [...withMounts(mounts), ...asNobody(), node, main, ...args];
  }

  /** Returns a domain's XML, which is the same on both hosts. */
  xml({
    name,
    memoryMiB = 160,
    loadMiB = 16,
    memoryFile,
    monitor,
    agent,
    node: location,
  }: PairDomain): string {
    const log = this.console(name);
    if (!existsSync(log)) {
      appendFileSync(log, '');
      chmodSync(log, 0o666);
    }
    const node = location && { ...location, control: this.wire(`${name}.control`).a };
    return domainXml({
      node,
      name,
      memoryMiB,
      loadMiB,
      memoryFile,
      monitor,
      agent,
      emulator: EMULATOR,
      console: log,
      ...this.#guest,
    });
  }

  /** Breaks the link between the hosts: packets are lost without an error on either side. */
  cut(): void {
    this.#link.set('down');
  }

  /** Restores the link between the hosts. */
  mend(): void {
    this.#link.set('up');
  }

  #sweepUmbra(): void {
    for (const pid of this.processes().keys()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone already
      }
    }
  }

  /** Kills all processes of both hosts and removes every folder. Idempotent. */
  dispose(): void {
    this.a.sweep();
    this.b.sweep();
    this.#link.remove();
    this.#sweepUmbra();
    for (const folder of [this.directory, this.memory]) {
      rmSync(folder, { recursive: true, force: true });
    }
    process.off('exit', this.#onExit);
  }
}

function exitOnSignal(): void {
  process.exit(130);
}

/** Links or copies a file out of our cache, which libvirtd's user cannot read. */
function shareFile(from: string, to: string): string {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
  chmodSync(to, 0o644);
  return to;
}
