/**
 * QEMU processes: started so that they outlive the agent, and found by the socket they listen on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { readdir, readlink, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import * as z from 'zod';
import { UmbraError } from '../../failure/failure.ts';
import { memberFile } from '../../host/folders.ts';
import { killProcess, processSchema, startTimeOf } from '../../host/pid-file.ts';
import { commandLineOf, processIds, socketInode, unixSockets } from '../../host/proc.ts';

const LOG_EXCERPT_LINES = 3;
const LOG_TAIL_BYTES = 4096;

const vmProcessSchema = processSchema.extend({
  commandLine: z.array(z.string()),
  workingDirectory: z.string(),
  /** True if Umbra has started it, false if it was found running. */
  owned: z.boolean(),
});

/** The process of a VM, as its pid file has it. */
export type VmProcess = z.infer<typeof vmProcessSchema>;

/** A VM that this process has just started. */
export interface StartedVm {
  readonly process: VmProcess;
  /** Resolves with the reason when QEMU exits; never rejects. */
  readonly exited: Promise<string>;
}

/**
 * Starts QEMU in a session of its own. Its output goes to `vm.log`, its process into `vm.json`.
 * @param recorded the command line for the pid file, if it is not the one to start with
 * @throws UmbraError E_VM_START
 */
export async function startVm(
  commandLine: readonly string[],
  workingDirectory: string,
  directory: string,
  recorded: readonly string[] = commandLine,
): Promise<StartedVm> {
  const [program = '', ...args] = commandLine;
  const logPath = memberFile(directory, 'vmLog');
  const log = openSync(logPath, 'a', 0o600);
  let child: ChildProcess;
  let vm: VmProcess;
  try {
    child = spawn(program, args, {
      cwd: workingDirectory,
      detached: true,
      stdio: ['ignore', log, log],
    });
    const pid = child.pid ?? 0;
    const startTime = startTimeOf(pid) ?? '';
    vm = { pid, startTime, commandLine: [...recorded], workingDirectory, owned: true };
    const spawned = new Promise<void>((done, reject) => {
      child.once('spawn', done);
      child.once('error', (cause) => {
        const message = `cannot start ${program}: ${cause.message}`;
        reject(new UmbraError({ code: 'E_VM_START', message }, cause));
      });
    });
    spawned.catch(() => {}); // it is awaited below
    // This comes first: if this process dies, no QEMU may be left that is not recorded.
    if (pid > 0) await recordOrKill(directory, vm);
    await spawned;
  } finally {
    closeSync(log);
  }
  child.unref();
  const exited = new Promise<string>((done) => {
    child.once('exit', (code, signal) => {
      done(`QEMU ended (${signal ?? `exit status ${code}`}): ${lastLines(logPath)}`);
    });
  });
  return { process: vm, exited };
}

/** Writes the pid file. @throws UmbraError E_VM_START; the VM is killed then */
async function recordOrKill(directory: string, vm: VmProcess): Promise<void> {
  try {
    recordVm(directory, vm);
  } catch (cause) {
    await killProcess(vm);
    await forgetVm(directory);
    const { code } = cause as NodeJS.ErrnoException;
    const message = `cannot record QEMU's process in ${directory}: ${code}`;
    throw new UmbraError({ code: 'E_VM_START', message }, cause);
  }
}

/** Writes a VM's pid file. */
export function recordVm(directory: string, process: VmProcess): void {
  writeFileSync(memberFile(directory, 'vm'), JSON.stringify(process), { mode: 0o600 });
}

/** Reads a VM's pid file; returns undefined if there is none, or it is damaged. */
export function recordedVm(directory: string): VmProcess | undefined {
  try {
    return vmProcessSchema.parse(JSON.parse(readFileSync(memberFile(directory, 'vm'), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Removes a VM's pid file. */
export async function forgetVm(directory: string): Promise<void> {
  await rm(memberFile(directory, 'vm'), { force: true });
}

/**
 * Finds the process that listens on a unix socket: /proc/net/unix gives the socket's inode, and the
 * process has a descriptor of it.
 * @throws UmbraError E_VM_NOT_FOUND
 */
export async function findVm(socketPath: string): Promise<VmProcess> {
  const notFound = (why: string) =>
    new UmbraError({
      code: 'E_VM_NOT_FOUND',
      message: `${socketPath}: ${why}`,
      hint: 'Give the path of the -qmp unix socket of a running QEMU of this host.',
    });
  const wanted = realPath(resolve(socketPath));
  const listeners = listenersNamed(basename(wanted));
  if (listeners.size === 0) throw notFound('no process listens on it');
  for (const pid of processIds()) {
    if (await listensOn(pid, listeners, wanted)) return describe(pid);
  }
  throw notFound('no process that may be looked at listens on it (other user, other namespace?)');
}

async function describe(pid: number): Promise<VmProcess> {
  const commandLine = commandLineOf(pid);
  // argv[0] may be relative to a PATH we do not have; the link is the file that runs.
  commandLine[0] = programOf(await readlink(`/proc/${pid}/exe`));
  const workingDirectory = await readlink(`/proc/${pid}/cwd`);
  return { pid, startTime: startTimeOf(pid) ?? '', commandLine, workingDirectory, owned: false };
}

/** Returns a path without symbolic links; of a file that is gone, as far as its folder is there. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return dirname(path) === path ? path : join(realPath(dirname(path)), basename(path));
  }
}

/**
 * Returns the file of a program. The kernel marks one that was replaced or removed since the
 * process has started (proc(5), /proc/PID/exe): an upgrade puts another in its place.
 */
export function programOf(link: string): string {
  return link.replace(/ \(deleted\)$/, '');
}

/**
 * Returns listening sockets by inode, each with the path it was bound to, which may be relative.
 */
function listenersNamed(name: string): ReadonlyMap<string, string> {
  return new Map(
    unixSockets('self')
      .filter(({ listens, path }) => listens && basename(path) === name)
      .map(({ inode, path }) => [inode, path]),
  );
}

/**
 * Tells whether a process has one of these sockets, and it is the wanted one, seen from its folder.
 */
async function listensOn(
  pid: number,
  listeners: ReadonlyMap<string, string>,
  wanted: string,
): Promise<boolean> {
  try {
    for (const fd of await readdir(`/proc/${pid}/fd`)) {
      const inode = socketInode(await readlink(`/proc/${pid}/fd/${fd}`));
      const bound = inode === undefined ? undefined : listeners.get(inode);
      if (bound === undefined) continue;
      if (realPath(resolve(await readlink(`/proc/${pid}/cwd`), bound)) === wanted) return true;
    }
  } catch {
    // the process has ended, or is not ours to look at
  }
  return false;
}

/** Returns the end of a VM's log. Never throws: the log may be gone when the VM ends. */
function lastLines(path: string): string {
  try {
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      const tail = Buffer.alloc(Math.min(size, LOG_TAIL_BYTES));
      readSync(fd, tail, 0, tail.length, size - tail.length);
      const lines = tail.toString('utf8').trim().split('\n');
      return lines.slice(-LOG_EXCERPT_LINES).join(' | ') || 'it said nothing';
    } finally {
      closeSync(fd);
    }
  } catch {
    return 'its log cannot be read';
  }
}
