/**
 * virsh, started once a command, or kept open for many (which saves 26 ms each).
 *
 *     stdin    COMMAND \n  echo um''bra-7 \n
 *     stdout   "virsh # " and the command, echoed; its output, errors included; "umbra-7"
 *
 * The mark is written so that its echo does not match it. Commands run one after the other.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { LibvirtError, libvirtError } from './errors.ts';

const COMMAND_LIMIT_MS = 60_000;
const ANSWER_BYTES_MAX = 16 * 2 ** 20;

/**
 * Runs one virsh command.
 * @returns what it printed
 * @throws LibvirtError
 */
export function virsh(uri: string, args: readonly string[], limitMs = COMMAND_LIMIT_MS) {
  const options = { env: environment(), timeout: limitMs, maxBuffer: ANSWER_BYTES_MAX };
  return new Promise<string>((resolve, reject) => {
    execFile('virsh', ['-q', '-c', uri, ...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trimEnd());
      else if (error.code === 'ENOENT') reject(missing(uri, error));
      else if (error.killed) {
        const message = `virsh ${args[0]} took longer than ${limitMs} ms`;
        reject(new LibvirtError('E_LIBVIRT', message, uri, error));
      } else reject(libvirtError(stderr, uri, error));
    });
  });
}

/** Runs one virsh command with an open socket as descriptor 3. The caller still owns the socket. */
export function virshWithSocket(uri: string, args: readonly string[], socket: Socket) {
  return new Promise<string>((resolve, reject) => {
    const child = spawn('virsh', ['-q', '-c', uri, ...args], {
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe', socket],
      timeout: COMMAND_LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let output = '';
    let complaint = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    child.once('error', (cause) => reject(missing(uri, cause)));
    child.once('close', (code) => {
      if (code === 0) resolve(output.trimEnd());
      else reject(libvirtError(complaint, uri));
    });
  });
}

/** Returns an environment in which virsh speaks English and colours nothing. */
export function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', TERM: 'dumb' };
}

/** Options of setpriv that end virsh with its parent, however the parent ends. */
export const DIE_WITH_US: readonly string[] = ['--pdeathsig', 'KILL'];

interface Waiting {
  readonly command: string;
  readonly resolve: (output: string) => void;
  readonly reject: (error: LibvirtError) => void;
}

export class Virsh {
  readonly #uri: string;
  readonly #child: ChildProcess;
  readonly #waiting: Waiting[] = [];
  readonly #onGone: (error: LibvirtError) => void;
  #mark = 0;
  #said = '';
  #gone: LibvirtError | undefined;

  /** @param onGone called once, when virsh has ended without `close` */
  constructor(uri: string, onGone: (error: LibvirtError) => void) {
    this.#uri = uri;
    this.#onGone = onGone;
    // One stream for output and errors keeps them in order.
    const words = ['sh', '-c', 'exec virsh -q -c "$1" 2>&1', 'sh', uri];
    this.#child = spawn('setpriv', [...DIE_WITH_US, ...words], {
      env: environment(),
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    this.#child.stdin?.on('error', () => {}); // 'close' reports that virsh has ended
    this.#child.once('error', (cause) => this.#ended(missing(uri, cause)));
    this.#child.once('close', () => this.#ended(libvirtError(this.#said, uri)));
  }

  get isOpen(): boolean {
    return this.#gone === undefined;
  }

  /** Runs one command after those before it. @throws LibvirtError when virsh has ended */
  run(command: string): Promise<string> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ command, resolve, reject });
      if (this.#waiting.length === 1) this.#send();
    });
  }

  /** Ends virsh; pending commands fail. Idempotent. */
  close(): void {
    this.#end(new LibvirtError('E_LIBVIRT_CONNECT', 'closed by its owner', this.#uri));
    this.#child.kill('SIGKILL');
  }

  #send(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#said = '';
    this.#mark++;
    this.#child.stdin?.write(`${next.command}\necho um''bra-${this.#mark}\n`);
  }

  #receive(text: string): void {
    this.#said += text;
    const at = this.#said.indexOf(`umbra-${this.#mark}`);
    if (at < 0) {
      if (this.#said.length > ANSWER_BYTES_MAX) this.close();
      return;
    }
    const said = this.#said.slice(0, at);
    const waiting = this.#waiting.shift();
    this.#send();
    waiting?.resolve(said);
  }

  /** Reports that virsh has ended without `close`. */
  #ended(error: LibvirtError): void {
    if (this.#gone !== undefined) return;
    this.#end(error);
    this.#onGone(error);
  }

  #end(error: LibvirtError): void {
    this.#gone ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

function missing(uri: string, cause: unknown): LibvirtError {
  return new LibvirtError('E_LIBVIRT_MISSING', 'virsh cannot be run', uri, cause);
}
