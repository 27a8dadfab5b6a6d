/**
 * Reads the memory of another process, at that process's own addresses.
 *
 *     process_vm_readv(pid) ──all of it──▶ one byte of /proc/PID/mem: has the process not ended?
 *            └──less, or not allowed──▶ all of it from /proc/PID/mem
 *
 * The first is fast and asks by pid; the descriptor belongs to this process alone, and reads
 * nothing once it has ended. So a pid that another process has by now is noticed.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { isAlive, type KnownProcess } from './known-process.ts';
import { processReadv } from './libc.ts';

export class ProcessMemory {
  readonly #pid: number;
  readonly #fd: number;
  readonly #oneByte = Buffer.alloc(1);
  #open = true;

  /**
   * Opens the memory of a process. A pid that is given to another process later does no harm.
   * @throws Error when it may not be read (ptrace(2), PTRACE_MODE_ATTACH), or the process is gone
   */
  constructor(known: KnownProcess) {
    this.#pid = known.pid;
    this.#fd = openSync(`/proc/${known.pid}/mem`, 'r');
    // Checked only now: from here on the descriptor belongs to this process and no other.
    if (isAlive(known)) return;
    closeSync(this.#fd);
    throw new Error(`process ${known.pid} is gone`);
  }

  /** Fills `into` from an address. @throws Error if not all of it is there */
  read(address: bigint, into: Uint8Array): void {
    if (!this.#open) throw new Error('closed');
    const readByPid = processReadv(this.#pid, address, into) === into.length;
    if (readByPid && readSync(this.#fd, this.#oneByte, 0, 1, address) === 1) return;
    const got = readSync(this.#fd, into, 0, into.length, address);
    if (got === into.length) return;
    throw new Error(`${got} of ${into.length} bytes at 0x${address.toString(16)}`);
  }

  /** Closes it. Idempotent. */
  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}
