/**
 * QEMU processes: started so that they outlive us, and found by what they listen on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { readdir, readlink, rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
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
  /** Started by Umbra, or found running. */
  owned: z.boolean(),
});

export type VmProcess = z.infer<typeof vmProcessSchema>;

export interface StartedVm {
  readonly process: VmProcess;
  /** Resolves with the reason when QEMU exits; never rejects. */
  readonly exited: Promise<string>;
}

/**
 * Starts QEMU in a session of its own; its output goes to `vm.log`, its name card to `vm.json`.
 * @param recorded the command line to start it with another time, if it is not this one
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
    // Before anything else happens: whoever dies now must leave none that nobody knows of.
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

/** @throws UmbraError E_VM_START; it is gone then */
async function recordOrKill(directory: string, vm: VmProcess): Promise<void> {
  try {
    recordVm(directory, vm);
  } catch (cause) {
    await killProcess(vm);
    await forgetVm(directory);
    const { code } = cause as NodeJS.ErrnoException;
    const message = `cannot note QEMU's process in ${directory}: ${code}`;
    throw new UmbraError({ code: 'E_VM_START', message }, cause);
  }
}

export function recordVm(directory: string, process: VmProcess): void {
  writeFileSync(memberFile(directory, 'vm'), JSON.stringify(process), { mode: 0o600 });
}

export function recordedVm(directory: string): VmProcess | undefined {
  try {
    return vmProcessSchema.parse(JSON.parse(readFileSync(memberFile(directory, 'vm'), 'utf8')));
  } catch {
    return undefined;
  }
}

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
  const wanted = resolve(socketPath);
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
  commandLine[0] = await readlink(`/proc/${pid}/exe`);
  const workingDirectory = await readlink(`/proc/${pid}/cwd`);
  return { pid, startTime: startTimeOf(pid) ?? '', commandLine, workingDirectory, owned: false };
}

/**
 * Listening sockets by inode, with the path they were bound to, which may be relative.
 * Columns: Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 marks a listener.
 */
function listenersNamed(name: string): ReadonlyMap<string, string> {
  return new Map(
    unixSockets('self')
      .filter(({ listens, path }) => listens && basename(path) === name)
      .map(({ inode, path }) => [inode, path]),
  );
}

/** Does a process hold one of these sockets, and is it, seen from its own folder, the wanted one? */
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
      if (resolve(await readlink(`/proc/${pid}/cwd`), bound) === wanted) return true;
    }
  } catch {
    // the process went away, or is not ours to look at
  }
  return false;
}

/** Never throws: it is called when a VM ends, whatever became of its log. */
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
