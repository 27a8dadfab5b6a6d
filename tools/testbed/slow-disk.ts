/**
 * A block device with a chosen speed that can also hang, mounted as a file system:
 *
 *     folder ──▶ ext4 ──▶ loop device ──▶ FUSE export ──▶ throttle-group ──▶ a file
 *                                         └──── of a qemu-storage-daemon ────┘
 *
 * While it hangs, a process that uses it sleeps in state D, which no signal ends, as with a failing
 * drive.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QmpClient } from '../../qmp/index.ts';

declare module '../../qmp/commands.ts' {
  interface QmpCommands {
    'qom-set': {
      arguments: { path: string; property: string; value: unknown };
      result: unknown;
    };
  }
}

export class SlowDisk {
  /** Mount point of its file system. */
  readonly folder: string;
  readonly #location: string;
  readonly #pid: number;

  /** Makes the disk and mounts it, with no limit of speed yet. @param bytes its size */
  static create(bytes: number): SlowDisk {
    const location = mkdtempSync(join(tmpdir(), 'umbra-slow-disk-'));
    const file = join(location, 'file');
    const exported = join(location, 'exported');
    for (const path of [file, exported]) writeFileSync(path, '');
    truncateSync(file, bytes);
    const options = [
      ['--object', 'throttle-group,id=pace'],
      ['--blockdev', `file,node-name=file,filename=${file}`],
      ['--blockdev', 'throttle,node-name=slow,file=file,throttle-group=pace'],
      ['--export', `fuse,id=export,node-name=slow,mountpoint=${exported},writable=on`],
      ['--chardev', `socket,id=monitor,path=${join(location, 'monitor')},server=on,wait=off`],
      ['--monitor', 'chardev=monitor', '--pidfile', join(location, 'pid'), '--daemonize'],
    ];
    run('qemu-storage-daemon', options.flat());
    const disk = new SlowDisk(location);
    try {
      run('mkfs.ext4', ['-q', '-F', '-m', '0', exported]);
      mkdirSync(disk.folder);
      run('mount', ['-o', 'loop', exported, disk.folder]);
      return disk;
    } catch (error) {
      disk.dispose();
      throw error;
    }
  }

  private constructor(location: string) {
    this.#location = location;
    this.folder = join(location, 'mount');
    this.#pid = Number(readFileSync(join(location, 'pid'), 'utf8'));
    process.once('exit', this.#onExit);
  }

  readonly #onExit = () => this.dispose();

  /** Limits reads and writes together, from now on. */
  async pace(bytesPerSecond: number | 'as quick as can be'): Promise<void> {
    const total = bytesPerSecond === 'as quick as can be' ? 0 : bytesPerSecond;
    const monitor = await QmpClient.connect(join(this.#location, 'monitor'));
    try {
      const value = { 'bps-total': total };
      await monitor.execute('qom-set', { path: '/objects/pace', property: 'limits', value });
    } finally {
      monitor.close();
    }
  }

  /** Stops the disk: requests wait until resume(). */
  hang(): void {
    process.kill(this.#pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.#pid, 'SIGCONT');
  }

  /** Removes the disk; requests under way fail. */
  dispose(): void {
    process.off('exit', this.#onExit);
    unmount(this.folder);
    process.kill(this.#pid, 'SIGKILL');
    unmount(join(this.#location, 'exported'));
    rmSync(this.#location, { recursive: true, force: true });
  }
}

/** Unmounts a folder, which may not have been mounted yet. */
function unmount(path: string): void {
  spawnSync('umount', ['--lazy', path], { stdio: 'ignore' });
}

function run(command: string, words: readonly string[]): void {
  execFileSync(command, words, { stdio: ['ignore', 'ignore', 'pipe'] });
}
