/**
 * The QEMU that a VM runs on, kept beside the cluster: an upgrade of the package puts another in
 * its place, and `restore --qemu recorded` starts the one that an epoch was taken from.
 *
 *     CLUSTER/qemu/BUILD-ID/bin/qemu-system-x86_64       a copy
 *                          /lib/x86_64-linux-gnu/qemu/   copies of its modules, if the VM has any
 *                          /origin                       the path of the original
 *
 * QEMU looks for its modules beside the folder that it was started from (get_relocated_path,
 * util/cutils.c), and takes those of its own build only (util/module.c): Debian's 7.2 emulates
 * processors by one. Firmware is the same for all builds: it is taken from where the original's is.
 */
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { buildIdOf } from '../../host/build-id.ts';
import { clusterFolder } from '../../host/folders.ts';
import { readMaps } from '../../host/proc-maps.ts';
import { programOf, type VmProcess } from '../vms/vm-process.ts';
import { pathOf, queryProgram } from './program.ts';

/** Folders of firmware, seen from a program's prefix. */
const FIRMWARE = ['share/qemu', 'share/seabios', 'lib/ipxe/qemu'] as const;
/** A module, with the part of its path that is the same below every prefix. */
const MODULE = /\/(lib(?:64)?(?:\/[^/]+)*\/qemu)\/[^/]+\.so$/;
/** More builds than clusters see in practice; each takes 20 to 30 MB. */
const KEPT_MAX = 8;

/**
 * Keeps the program of a VM, if it is a file that its command line names: not a script that starts
 * QEMU. Does nothing if it is there.
 * @throws Error if it cannot be copied
 */
export function keepProgram({ pid, commandLine }: VmProcess, clusterDirectory: string): void {
  const running = `/proc/${pid}/exe`;
  const original = programOf(readlinkSync(running));
  if (original !== resolved(commandLine[0] ?? '')) return;
  const id = buildIdOf(running);
  if (id === undefined) return;
  const folder = clusterFolder(clusterDirectory, 'programs');
  const kept = join(folder, id);
  if (existsSync(kept)) return;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const making = mkdtempSync(join(folder, '.'));
  try {
    fill(making, pid, original);
    renameSync(making, kept);
  } catch (error) {
    rmSync(making, { recursive: true, force: true });
    throw error;
  }
  removeOldest(folder);
}

/**
 * Returns how a build's kept program is started: its path, and where it finds its firmware.
 * Undefined if there is none, or it is another.
 */
export function keptProgram(clusterDirectory: string, buildId: string): string[] | undefined {
  const folder = join(clusterFolder(clusterDirectory, 'programs'), buildId);
  try {
    const original = readFileSync(join(folder, 'origin'), 'utf8');
    const path = join(folder, 'bin', basename(original));
    if (buildIdOf(path) !== buildId) return undefined;
    const prefix = dirname(dirname(original));
    const firmware = FIRMWARE.map((name) => join(prefix, name)).filter(existsSync);
    return [path, ...firmware.flatMap((one) => ['-L', one])];
  } catch {
    return undefined;
  }
}

/**
 * Returns what an operator is told of a VM whose program's file is another one by now.
 * @param version the QEMU that it runs on
 */
export async function replacedProgram(
  { pid, commandLine }: VmProcess,
  version: string,
): Promise<string | undefined> {
  const [program = ''] = commandLine;
  const path = resolved(program);
  if (path === undefined || isSameFile(`/proc/${pid}/exe`, path)) return undefined;
  const [running, installed] = [buildIdOf(`/proc/${pid}/exe`), buildIdOf(path)];
  if (running === undefined || installed === undefined || installed === running) return undefined;
  const { version: other } = await queryProgram(program);
  const which = other === version ? `another build of QEMU ${other}` : `QEMU ${other}`;
  return `it runs on QEMU ${version}; ${program} is ${which} now`;
}

function fill(folder: string, pid: number, original: string): void {
  const modules = readMaps(pid).filter(({ path }) => MODULE.test(path));
  const replaced = modules.find(({ removed }) => removed);
  if (replaced !== undefined) throw new Error(`its module ${replaced.path} was replaced`);
  for (const from of new Set(modules.map(({ path }) => dirname(path)))) {
    const [, place = ''] = MODULE.exec(`${from}/any.so`) ?? [];
    const into = join(folder, place);
    mkdirSync(into, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(from)) copy(join(from, name), join(into, name), 0o600);
  }
  const program = join(folder, 'bin', basename(original));
  mkdirSync(dirname(program), { mode: 0o700 });
  copy(`/proc/${pid}/exe`, program, 0o700);
  writeFileSync(join(folder, 'origin'), original, { mode: 0o600 });
}

function copy(from: string, to: string, mode: number): void {
  copyFileSync(from, to, constants.COPYFILE_FICLONE);
  chmodSync(to, mode);
}

function removeOldest(folder: string): void {
  const kept = readdirSync(folder).map((name) => join(folder, name));
  const byAge = kept.sort((one, two) => statSync(two).mtimeMs - statSync(one).mtimeMs);
  for (const path of byAge.slice(KEPT_MAX)) rmSync(path, { recursive: true, force: true });
}

/** Returns the file that a program leads to; undefined if it is gone. */
function resolved(program: string): string | undefined {
  try {
    return realpathSync(pathOf(program) ?? '');
  } catch {
    return undefined;
  }
}

function isSameFile(one: string, two: string): boolean {
  const [a, b] = [fileOf(one), fileOf(two)];
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

function fileOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
