/**
 * Runs programs in the folder of a whole system, as if it were a machine of its own:
 *
 *     namespaces   mounts, processes
 *     /proc /sys   anew
 *     /dev         the host's; /dev/shm, /dev/pts and /run are anew, and empty
 *     network      the host's
 *
 * Each program has its own namespaces. They end with it and take along every process it has started
 * and every mount, also if we are killed: no mount is ever seen outside.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/**
 * Mounts what a system has, then runs the command; as process 1 it reaps orphans meanwhile. The
 * root is mounted on itself, because programs that make mount namespaces expect a mount at /.
 */
const SCRIPT = `
set -e
root=$1 folder=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --bind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
set +e
chroot "$root" sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
exit $?
`;
const NAMESPACES = ['unshare', '--mount', '--pid', '--fork', '--kill-child'];
/** Ends the namespaces' owner with us, however we end. */
const WITH_US = ['setpriv', '--pdeathsig', 'KILL'];
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface SandboxOptions {
  /** Environment of the programs, besides PATH and HOME. */
  readonly env: Readonly<Record<string, string>>;
  /** Is called with all that programs write, as it comes. */
  readonly onOutput: (text: string) => void;
  /** Kills the program that runs; none is run afterwards. */
  readonly signal: AbortSignal;
}

/** The end of a program, and when it came. */
export interface SandboxEnd {
  readonly code: number;
  readonly tookMs: number;
}

export class Sandbox {
  readonly root: string;
  readonly #options: SandboxOptions;

  /** @param root folder of the whole system */
  constructor(root: string, options: SandboxOptions) {
    this.root = root;
    this.#options = options;
  }

  /** Runs a program with the folder, a path in the system, as its working directory. */
  run(folder: string, ...command: readonly string[]): Promise<SandboxEnd> {
    return this.#run(SCRIPT, folder, command);
  }

  /** Runs a program of the host, for which the root is only a folder. It may mount things in it. */
  runOutside(...command: readonly string[]): Promise<SandboxEnd> {
    return this.#run('shift 2; "$@"; exit $?', '/', command);
  }

  async #run(script: string, folder: string, command: readonly string[]): Promise<SandboxEnd> {
    const { signal, env, onOutput } = this.#options;
    if (signal.aborted) return { code: -1, tookMs: 0 };
    const startedAt = performance.now();
    const prefix = [
      ...WITH_US,
      ...NAMESPACES,
      '--propagation',
      'private',
      'sh',
      '-c',
      script,
      'sh',
    ];
    const [program = '', ...args] = [...prefix, this.root, folder, ...command];
    const child = spawn(program, args, {
      // A process group of its own: Ctrl-C is for us, and we end it.
      detached: true,
      env: { PATH, HOME: '/root', LANG: 'C.UTF-8', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const kill = () => child.kill('SIGKILL');
    signal.addEventListener('abort', kill);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', onOutput);
    }
    try {
      const code = await new Promise<number>((resolve, reject) => {
        child.once('error', reject).once('close', (status) => resolve(status ?? -1));
      });
      return { code, tookMs: performance.now() - startedAt };
    } finally {
      signal.removeEventListener('abort', kill);
    }
  }
}

/** Returns whether something is mounted in a folder, as we see it. */
export function hasMounts(folder: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => `${line.split(' ')[4]}/`.startsWith(`${folder}/`));
}
