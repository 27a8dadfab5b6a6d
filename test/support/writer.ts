/** A process that writes to memory of its own as it is told (writing-process.ts). */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type KnownProcess, startTimeOf } from '../../proxy/host/known-process.ts';

const PROGRAM = fileURLToPath(new URL('writing-process.ts', import.meta.url));

export interface Orders {
  readonly write?: readonly number[];
  readonly read?: readonly number[];
  readonly giveBack?: readonly number[];
}

export class Writer {
  readonly process: KnownProcess;
  readonly #child: ChildProcess;

  static async start(): Promise<Writer> {
    const child = fork(PROGRAM, { execArgv: ['--import', 'tsx'] });
    await once(child, 'message');
    return new Writer(child);
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    const pid = child.pid ?? 0;
    this.process = { pid, startTime: startTimeOf(pid) ?? '' };
  }

  /**
   * Has it map memory, which its orders are about from now on.
   * @param file of memory that is not anonymous
   */
  async map(
    kind: 'anonymous' | 'mapped' | 'shared',
    bytes: number,
    file?: string,
  ): Promise<bigint> {
    this.#child.send({ map: { kind, bytes, file } });
    const [{ address }] = (await once(this.#child, 'message')) as [{ address: number }];
    return BigInt(address);
  }

  /** Has it act, and waits until it has. */
  async do(orders: Orders): Promise<void> {
    this.#child.send(orders);
    await once(this.#child, 'message');
  }

  /** Ends it. Idempotent. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const over = once(this.#child, 'exit');
    this.#child.disconnect();
    await over;
  }
}
