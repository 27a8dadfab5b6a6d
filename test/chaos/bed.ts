/** The clusters of the matrix: which rows share one, and how each is configured. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import type { EpochInfo } from '../../proxy/protocol/epoch.ts';
import type { QemuBinary } from '../../tools/qemu/qemu.ts';
import { SlowDisk } from '../../tools/testbed/slow-disk.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import type { BedKind } from './rows.ts';

/** Stop deadline. An undisturbed round needs a fraction of it, even on a slow machine. */
export const DEADLINE_MS = 8_000;
/** Number of epochs that a cluster keeps, in memory and on disk. */
export const KEEP = 2;
const NODES = 2;
const MEMORY_MIB = 192;
/** Size of the store: room for a round beside the kept epochs, each stored whole. */
const STORE_MIB = (KEEP + 2) * NODES * MEMORY_MIB;
const DISK_BYTES = 768 * 2 ** 20;
/** Disk of a member, a file in the testbed's folder. */
const DISK = '/{name}.raw,if=virtio,format=raw';
const GUEST_DISK_BYTES = 2 ** 20;
/** Called directly: a frozen proxy is soon given up, too soon to start a program for every file. */
const fallocate = koffi
  .load('libc.so.6')
  .func('int posix_fallocate(int fd, int64_t offset, int64_t length)');
/** Value of `foldAt`, as a share of the base, at which every epoch is folded. */
const ANY_DIFFERENCE = 1e-6;

export class ChaosBed {
  readonly kind: BedKind;
  readonly cluster: Testbed;
  /** Mount point of a small file system: the store, or the disk for persisting. */
  readonly #mount: string | undefined;
  readonly #disk: SlowDisk | undefined;

  /** Starts a cluster with as many epochs as it keeps: the next one removes the oldest. */
  static async start(kind: Exclude<BedKind, 'libvirt'>, qemu: QemuBinary): Promise<ChaosBed> {
    const disk = kind === 'disk' ? SlowDisk.create(DISK_BYTES) : undefined;
    const mount = kind === 'small store' ? mountStore() : disk?.folder;
    let cluster: Testbed | undefined;
    try {
      const settings = settingsOf(kind, mount);
      const about = { nodes: NODES, memoryMiB: MEMORY_MIB, qemu, settings, watch: true };
      cluster = await Testbed.create(kind === 'all-stopped' ? { ...about, disk: DISK } : about);
      if (kind === 'all-stopped') makeDisks(cluster);
      await cluster.up();
      for (let epoch = 1; epoch <= KEEP; epoch++) {
        await cluster.json('checkpoint');
        if (kind === 'disk') await onDisk(cluster, epoch);
      }
      return new ChaosBed(kind, cluster, mount, disk);
    } catch (error) {
      await cluster?.dispose();
      remove(mount, disk);
      throw error;
    }
  }

  private constructor(
    kind: BedKind,
    cluster: Testbed,
    mount: string | undefined,
    disk: SlowDisk | undefined,
  ) {
    this.kind = kind;
    this.cluster = cluster;
    this.#mount = mount;
    this.#disk = disk;
    process.once('exit', this.#onExit);
  }

  readonly #onExit = () => remove(this.#mount, this.#disk);

  get disk(): SlowDisk {
    if (this.#disk === undefined) throw new Error(`${this.kind} has no disk`);
    return this.#disk;
  }

  /** Fills the file system until nothing more can be written to it. */
  fill(): void {
    if (this.#mount === undefined) throw new Error(`${this.kind} has no room of its own`);
    mkdirSync(this.#ballast, { recursive: true });
    // Not all free blocks can be allocated: files need some for metadata, and other processes
    // allocate some at the same time.
    for (let file = 0, share = 1; ; file++) {
      const { bavail, bsize } = statfsSync(this.#mount);
      const blocks = Math.max(1, Math.floor(bavail * share));
      if (bavail === 0) return;
      const fd = openSync(join(this.#ballast, String(file)), 'w');
      const errno = fallocate(fd, 0, blocks * bsize);
      closeSync(fd);
      if (errno === 0) continue;
      if (blocks === 1) return;
      share /= 2;
    }
  }

  empty(): void {
    if (this.#mount !== undefined) rmSync(this.#ballast, { recursive: true, force: true });
  }

  /** Makes a slow or hung disk work at full speed again. */
  async mend(): Promise<void> {
    this.#disk?.resume();
    await this.#disk?.pace('as quick as can be');
  }

  get #ballast(): string {
    return join(this.#mount ?? '', 'ballast');
  }

  async dispose(): Promise<void> {
    await this.cluster.dispose();
    process.off('exit', this.#onExit);
    remove(this.#mount, this.#disk);
  }
}

/** Waits until an epoch is on disk. With KEEP epochs there, the next one removes the oldest. */
async function onDisk(cluster: Testbed, epoch: number): Promise<void> {
  for (;;) {
    const { epochs } = await cluster.json<{ epochs: EpochInfo[] }>('epochs');
    if (epochs.some((one) => one.epoch === epoch && one.onDisk)) return;
  }
}

function settingsOf(kind: BedKind, mount: string | undefined) {
  // Precopy under TCG is not trusted before QEMU 9.0: such VMs are captured by stop-copy.
  const others = ['precopy', 'stop-copy'];
  const capture =
    kind === 'background' ? 'background' : kind === 'tracked' ? ['tracked', ...others] : others;
  const round = { capture, stopDeadline: `${DEADLINE_MS}ms` };
  const common = { round, epochs: { keep: KEEP } };
  if (kind === 'all-stopped') {
    const stands = { capture: 'background', cut: 'all-stopped', disks: 'snapshot' };
    return { ...common, round: { ...round, ...stands } };
  }
  if (kind === 'fold') return { ...common, store: { foldAt: ANY_DIFFERENCE } };
  if (kind === 'disk') return { ...common, persist: { to: mount, keep: KEEP } };
  if (kind === 'small store') return { ...common, store: { directory: mount, headroom: '4MiB' } };
  return common;
}

function makeDisks({ home, nodes }: Testbed): void {
  for (let node = 0; node < nodes; node++) {
    writeFileSync(join(home, `n${node}.raw`), Buffer.alloc(GUEST_DISK_BYTES));
  }
}

function mountStore(): string {
  const folder = mkdtempSync('/dev/shm/umbra-chaos-');
  const options = `size=${STORE_MIB}m,mode=0700`;
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'umbra-chaos', folder]);
  return folder;
}

function remove(mount: string | undefined, disk: SlowDisk | undefined): void {
  disk?.dispose();
  if (mount === undefined || disk !== undefined) return;
  execFileSync('umount', ['-l', mount]);
  rmSync(mount, { recursive: true, force: true });
}
