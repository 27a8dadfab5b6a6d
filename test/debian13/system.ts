/**
 * A Debian 13 with Node, npm and git, and nothing else that we need:
 *
 *     CACHE/debian13/base      as it was installed; made once, then copied
 *     CACHE/debian13/kept-…    what a run with --keep has left, and the next one goes on with
 *     CACHE/debian13/run-PID   of any other run; removed at its end, or by the next one
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mirrorOf } from '../../tools/packages/apt.ts';
import { cachedFolder, cacheFolder } from '../../tools/packages/cache.ts';
import { DEBIAN_RELEASES, systemRelease } from '../../tools/packages/release.ts';
import { ensureRequirements } from '../../tools/setup/requirements.ts';
import { takeHostSettings } from './host-settings.ts';
import { hasMounts, Sandbox, type SandboxEnd, type SandboxOptions } from './sandbox.ts';

const SUITE = 'trixie';
const PACKAGES = ['nodejs', 'npm', 'git'];
const INSTALL = ['apt-get', '-q', 'install', '-y', '--no-install-recommends'];
/** Packages of libvirt that the set-up installs. */
const LIBVIRT = ['libvirt-daemon', 'libvirt-daemon-driver-qemu', 'libvirt-clients'];
const REQUIREMENTS = [
  {
    debianPackage: 'debootstrap',
    probe: '/usr/sbin/debootstrap',
    purpose: 'installs a Debian 13 in a folder',
  },
];
/** Folder of the clone in the system. */
export const CLONE = '/root/umbra';

export type Origin = 'system' | 'backports';

export interface SystemOptions extends SandboxOptions {
  /** Source of libvirt: the release itself, or its backports. */
  readonly libvirt: Origin;
  /** Uses the system that an earlier run has left, if there is one, and leaves it again. */
  readonly keep: boolean;
  readonly progress: (line: string) => void;
}

/** Makes a system, or takes the one that was kept. @throws Error if a step fails */
export async function makeSystem(options: SystemOptions): Promise<Sandbox> {
  const folder = join(cacheFolder(), 'debian13');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const kept = join(folder, `kept-${options.libvirt}`);
  if (options.keep && existsSync(kept)) return new Sandbox(kept, options);
  const base = await cachedFolder(join(folder, 'base'), (scratch) => install(scratch, options));
  await removeAbandoned(folder);
  options.progress('copying the system');
  if (options.keep) {
    await cachedFolder(kept, (scratch) => copy(base, scratch, options));
    return new Sandbox(kept, options);
  }
  const run = join(folder, `run-${process.pid}`);
  await mkdir(run);
  try {
    await copy(base, run, options);
  } catch (error) {
    await rm(run, { recursive: true, force: true });
    throw error;
  }
  return new Sandbox(run, options);
}

/** Removes the systems of runs that were killed. */
async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const [, pid] = /^run-(\d+)$/.exec(name) ?? [];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Removes the folder of a system. */
export async function removeSystem({ root }: Sandbox): Promise<void> {
  if (hasMounts(root)) throw new Error(`something is mounted in ${root}: it is left as it is`);
  await rm(root, { recursive: true, force: true });
}

/** Copies the last commit of this repository into the system. */
export async function cloneInto(system: Sandbox, repository: string): Promise<void> {
  const target = join(system.root, CLONE);
  await rm(target, { recursive: true, force: true });
  const words = ['git', 'clone', '--quiet', '--no-local', repository, target];
  must('git clone', await system.runOutside(...words));
}

const DIALOGS = 'DEBIAN_FRONTEND=noninteractive';

async function install(root: string, options: SystemOptions): Promise<void> {
  await ensureRequirements(options.progress, REQUIREMENTS);
  options.progress('installing Debian 13 by debootstrap, once');
  const system = new Sandbox(root, options);
  // Other users than root pass through it; the folder above is closed to them.
  await chmod(root, 0o755);
  const include = '--include=ca-certificates';
  const words = ['debootstrap', '--variant=minbase', include, SUITE, root, await hostMirror()];
  must('debootstrap', await system.runOutside(...words));
  await takeHostSettings(root);
  must('certificates', await system.run('/', 'update-ca-certificates'));
  must('apt-get update', await system.run('/', 'apt-get', '-q', 'update'));
  // It need not survive a power cut, and waits for the disk at every file otherwise.
  const quick = ['-o', 'Dpkg::Options::=--force-unsafe-io'];
  must('apt-get install', await system.run('/', 'env', DIALOGS, ...INSTALL, ...quick, ...PACKAGES));
  // A system that has just been installed has no lists of packages.
  must('apt-get', await system.run('/', 'sh', '-c', 'apt-get clean; rm -rf /var/lib/apt/lists/*'));
}

async function hostMirror(): Promise<string> {
  return await mirrorOf(await systemRelease());
}

async function copy(from: string, to: string, options: SystemOptions): Promise<void> {
  await chmod(to, 0o755);
  const words = ['cp', '--archive', '--reflink=auto', '--no-target-directory', from, to];
  const system = new Sandbox(to, options);
  must('cp', await system.runOutside(...words));
  await takeHostSettings(to);
  if (options.libvirt === 'backports') await installNewerLibvirt(system);
}

/** Installs libvirt from backports, before the set-up would install the release's own. */
async function installNewerLibvirt(system: Sandbox): Promise<void> {
  const release = DEBIAN_RELEASES.find(({ codename }) => codename === SUITE);
  const backports = release?.backports ?? '';
  const line = `deb ${await hostMirror()} ${backports} main\n`;
  await writeFile(join(system.root, 'etc/apt/sources.list.d/backports.list'), line);
  // Only libvirt: QEMU, which it needs, remains the release's.
  const pin = `Package: src:libvirt\nPin: release n=${backports}\nPin-Priority: 600\n`;
  await writeFile(join(system.root, 'etc/apt/preferences.d/libvirt'), pin);
  must('apt-get update', await system.run('/', 'apt-get', '-q', 'update'));
  must('libvirt', await system.run('/', 'env', DIALOGS, ...INSTALL, ...LIBVIRT));
}

function must(what: string, { code }: SandboxEnd): void {
  if (code !== 0) throw new Error(`${what} failed: exit code ${code}`);
}
