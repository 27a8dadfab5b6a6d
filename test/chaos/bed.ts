/** The clusters of the matrix: which rows share one, and how each is configured. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EpochInfo } from '../../proxy/coordinator/epochs.ts';
import type { QemuBinary } from '../../tools/setup/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import type { BedKind } from './rows.ts';

export const DEADLINE_MS = 4_000;
/** Epochs a cluster keeps, in memory and on disk. */
export const KEEP = 2;
const NODES = 2;
const MEMORY_MIB = 192;
/** Room for a round beside the epochs that are kept, each whole. */
const STORE_MIB = (KEEP + 2) * NODES * MEMORY_MIB;
const DISK_MIB = 512;
/** Of its base: every epoch is folded. */
const ANY_DIFFERENCE = 1e-6;

export class ChaosBed {
  readonly kind: BedKind;
  readonly cluster: Testbed;
  /** A small file system of its own: of the store, or the disk. */
  readonly #mount: string | undefined;

  /** @returns with epochs enough that another one makes the oldest go */
  static async start(kind: Exclude<BedKind, 'libvirt'>, qemu: QemuBinary): Promise<ChaosBed> {
    const mount = kind === 'small store' || kind === 'disk' ? mountOf(kind) : undefined;
    let cluster: Testbed | undefined;
    try {
      const settings = settingsOf(kind, mount);
      const about = { nodes: NODES, memoryMiB: MEMORY_MIB, qemu, settings, watch: true };
      cluster = await Testbed.create(about);
      await cluster.up();
      for (let epoch = 1; epoch <= KEEP; epoch++) {
        await cluster.json('checkpoint');
        if (kind === 'disk') await onDisk(cluster, epoch);
      }
      return new ChaosBed(kind, cluster, mount);
    } catch (error) {
      await cluster?.dispose();
      unmount(mount);
      throw error;
    }
  }

  private constructor(kind: BedKind, cluster: Testbed, mount: string | undefined) {
    this.kind = kind;
    this.cluster = cluster;
    this.#mount = mount;
    process.once('exit', this.#onExit);
  }

  readonly #onExit = () => unmount(this.#mount);

  /** Nothing more can be written there. */
  fill(): void {
    if (this.#mount === undefined) throw new Error(`${this.kind} has no room of its own`);
    // Others take room meanwhile: then there is less to take.
    for (;;) {
      const { bavail, bsize } = statfsSync(this.#mount);
      if (bavail === 0) return;
      const words = ['-l', String(bavail * bsize), this.#ballast];
      const { status, error } = spawnSync('fallocate', words);
      if (error !== undefined) throw error;
      if (status === 0) return;
    }
  }

  empty(): void {
    if (this.#mount !== undefined) rmSync(this.#ballast, { force: true });
  }

  get #ballast(): string {
    return join(this.#mount ?? '', 'ballast');
  }

  async dispose(): Promise<void> {
    await this.cluster.dispose();
    process.off('exit', this.#onExit);
    unmount(this.#mount);
  }
}

/** Then the next one makes the oldest go there, too. */
async function onDisk(cluster: Testbed, epoch: number): Promise<void> {
  for (;;) {
    const { epochs } = await cluster.json<{ epochs: EpochInfo[] }>('epochs');
    if (epochs.some((one) => one.epoch === epoch && one.onDisk)) return;
  }
}

function settingsOf(kind: BedKind, mount: string | undefined) {
  // QEMU before 9.0 is not trusted with precopy under TCG: its VMs are stopped first and copied whole.
  const capture = kind === 'background' ? 'background' : ['precopy', 'stop-copy'];
  const common = {
    round: { capture, stopDeadline: `${DEADLINE_MS}ms` },
    epochs: { keep: KEEP },
  };
  if (kind === 'fold') return { ...common, store: { foldAt: ANY_DIFFERENCE } };
  if (kind === 'disk') return { ...common, persist: { to: mount, keep: KEEP } };
  if (kind === 'small store') return { ...common, store: { directory: mount, headroom: '4MiB' } };
  return common;
}

function mountOf(kind: BedKind): string {
  const [size, below] = kind === 'disk' ? [DISK_MIB, tmpdir()] : [STORE_MIB, '/dev/shm'];
  const folder = mkdtempSync(join(below, 'umbra-chaos-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}m,mode=0700`, 'umbra-chaos', folder]);
  return folder;
}

function unmount(folder: string | undefined): void {
  if (folder === undefined) return;
  execFileSync('umount', ['-l', folder]);
  rmSync(folder, { recursive: true, force: true });
}
