/** Reads the memory of another process, at that process's own addresses (/proc/PID/mem). */
import { closeSync, openSync, readSync } from 'node:fs';
import { isAlive, type KnownProcess } from './known-process.ts';

export class ProcessMemory {
  readonly #fd: number;
  #open = true;

  /**
   * Opens the memory of a process. A pid that is given to another process later does no harm.
   * @throws Error when it may not be read (ptrace(2), PTRACE_MODE_ATTACH), or the process is gone
   */
  constructor(known: KnownProcess) {
    this.#fd = openSync(`/proc/${known.pid}/mem`, 'r');
    // Checked only now: from here on the descriptor belongs to this process and no other.
    if (isAlive(known)) return;
    closeSync(this.#fd);
    throw new Error(`process ${known.pid} is gone`);
  }

  /** Fills `into` from an address. @throws Error if not all of it is there */
  read(address: bigint, into: Uint8Array): void {
    if (!this.#open) throw new Error('closed');
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
