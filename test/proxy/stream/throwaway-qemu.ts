/**
 * One real QEMU for one test: SeaBIOS, a boot sector that never stops dirtying half a megabyte,
 * and just enough QMP to migrate it. Nothing of it survives `close`, nor the test's process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findQemus, type QemuBinary } from '../../../tools/qemu/qemu.ts';

export const RAM_BYTES = 64 * 1024 * 1024;
/** Limit of every wait, after which the test fails. */
const PATIENCE_MS = 60_000;

/**
 * First fills the pages from 64 KiB to 576 KiB, then changes four bytes of each, for ever. Flips
 * CR0.WP each time round, which flushes the TLB: QEMU before 9.0 forgets under TCG to watch pages
 * again whose TLB entry survives a look at the dirty bitmap (QEMU commit 03bfc2188f).
 */
const BOOT_SECTOR = Buffer.from(
  [
    'fa fc b80010', //            cli; cld; mov ax, 0x1000
    '8ec0 31ff b90008 f3ab', //   fill: mov es, ax; xor di, di; mov cx, 2048; rep stosw
    '050001 3d0090 72ef', //            add ax, 0x100; cmp ax, 0x9000; jb fill
    '43 0f20c0 663500000100 0f22c0', // pass: inc bx; mov eax, cr0; xor eax, 0x10000; mov cr0, eax
    'b80010', //                        mov ax, 0x1000
    '8ed8 891e0000 891e0008', //  page: mov ds, ax; mov [0], bx; mov [0x800], bx
    '050001 3d0090 72ee ebdc', //       add ax, 0x100; cmp ax, 0x9000; jb page; jmp pass
  ]
    .join('')
    .replaceAll(' ', ''),
  'hex',
);

/** The QEMUs to test with: all that are installed. */
export const BINARIES: readonly QemuBinary[] = await findQemus();

export class TempDir {
  readonly path = mkdtempSync(join(tmpdir(), 'umbra-stream-'));
  readonly #atExit = (): void => this.remove();

  constructor() {
    process.once('exit', this.#atExit);
    const floppy = Buffer.alloc(1440 * 1024);
    BOOT_SECTOR.copy(floppy);
    floppy.writeUInt16BE(0x55aa, 510);
    writeFileSync(this.file('floppy'), floppy);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  remove(): void {
    process.off('exit', this.#atExit);
    rmSync(this.path, { recursive: true, force: true });
  }
}

export class Qemu {
  readonly #dir: TempDir;
  readonly #child: ChildProcess;
  readonly #qmpPath: string;
  readonly #atExit = (): void => void this.#child.kill('SIGKILL');
  #socket: Socket | undefined;
  #stderr = '';
  #replies: ((reply: Reply) => void)[] = [];

  constructor(binary: QemuBinary, dir: TempDir, args: readonly string[]) {
    this.#dir = dir;
    this.#qmpPath = dir.file('qmp');
    rmSync(this.#qmpPath, { force: true });
    const fixed = ['-nodefaults', '-accel', 'tcg', '-m', '64', '-display', 'none'];
    const floppy = `file=${dir.file('floppy')},file.locking=off,format=raw,if=floppy,readonly=on`;
    const boot = [
      '-drive',
      floppy,
      '-boot',
      'a',
      '-qmp',
      `unix:${this.#qmpPath},server=on,wait=off`,
    ];
    this.#child = spawn(binary.binary, [...binary.args, ...fixed, ...boot, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child.stderr?.on('data', (text) => {
      this.#stderr += text;
    });
    this.#child.on('error', () => {});
    process.once('exit', this.#atExit);
  }

  async open(): Promise<this> {
    await this.until('QMP answers', async () => {
      const socket = connect(this.#qmpPath);
      const opened = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
      });
      if (opened) this.#socket = socket;
      return opened;
    });
    // A QEMU that dies must fail the test, not leave it waiting.
    const gone = { error: { desc: 'QEMU closed QMP' } };
    this.#socket?.on('close', () => {
      for (const reply of this.#replies.splice(0)) reply(gone);
    });
    let text = '';
    this.#socket
      ?.on('error', () => {})
      .on('data', (data) => {
        const lines = (text + data).split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) {
          const reply: Reply = JSON.parse(line);
          if ('return' in reply || 'error' in reply) this.#replies.shift()?.(reply);
        }
      });
    await this.qmp('qmp_capabilities');
    return this;
  }

  async qmp(execute: string, args: object = {}): Promise<Answer> {
    if (this.#socket?.writable !== true) throw new Error(`${execute}: no QMP. ${this.#stderr}`);
    this.#socket.write(JSON.stringify({ execute, arguments: args }));
    const reply = await new Promise<Reply>((resolve) => this.#replies.push(resolve));
    if (reply.error !== undefined) {
      throw new Error(`${execute}: ${reply.error.desc}. ${this.#stderr}`);
    }
    return reply.return ?? {};
  }

  /** Waits until the boot sector is at work: the last page that it dirties is no longer empty. */
  async busy(): Promise<void> {
    await this.until('the guest is busy', async () => {
      return this.memory(0x8f000, 2).then((bytes) => bytes.readUInt16LE() > 0);
    });
  }

  async capability(name: string): Promise<void> {
    const capabilities = [{ capability: name, state: true }];
    await this.qmp('migrate-set-capabilities', { capabilities });
  }

  async hasCapability(name: string): Promise<boolean> {
    const all = await this.qmp('query-migrate-capabilities');
    return JSON.stringify(all).includes(`"${name}"`);
  }

  async migrated(status = 'completed'): Promise<Answer> {
    let answer: Answer = {};
    await this.until(`migration ${status}`, async () => {
      answer = await this.qmp('query-migrate');
      if (answer.status === 'failed') throw new Error(`migration failed\n${this.#stderr}`);
      return answer.status === status;
    });
    return answer;
  }

  /** Reads guest-physical memory. */
  async memory(address: number, size: number): Promise<Buffer> {
    const filename = this.#dir.file('pmemsave');
    await this.qmp('pmemsave', { val: address, size, filename });
    return readFileSync(filename);
  }

  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await condition())) {
      if (this.#child.exitCode !== null) throw new Error(`QEMU is gone: ${this.#stderr}`);
      if (Date.now() > deadline) throw new Error(`not in time: ${what}\n${this.#stderr}`);
      await sleep(20);
    }
  }

  async close(): Promise<void> {
    process.off('exit', this.#atExit);
    this.#socket?.destroy();
    if (this.#child.exitCode !== null || this.#child.pid === undefined) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/** Fields of QMP answers that the tests look at. */
export interface Answer {
  readonly status?: string;
  readonly ram?: {
    readonly duplicate: number;
    readonly normal: number;
    readonly 'dirty-sync-count': number;
  };
  readonly 'xbzrle-cache'?: { readonly pages: number };
}

interface Reply {
  readonly return?: Answer;
  readonly error?: { readonly desc: string };
}
