/**
 * A child process with a channel, and the child's own end of it.
 *
 *     parent   Child ──────── channel ──────── ParentChannel   child
 *                └─ ended: the process is gone, or was never started
 *
 * A child of ours leads a session of its own: a terminal's Ctrl-C does not reach it. It sees its
 * parent hang up, or end, as `disconnect`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import type { UmbraError } from '../failure/failure.ts';
import { type Calls, Channel, type ChannelOptions } from '../protocol/channel.ts';

export interface ChildOptions<Remote extends Calls, Local extends Calls>
  extends ChannelOptions<Remote, Local> {
  /** Set in the child's environment, beside ours. */
  readonly env?: Readonly<Record<string, string>>;
  /** Makes the error of requests that the child can no longer answer. */
  readonly gone: () => UmbraError;
}

export class Child<Remote extends Calls, Local extends Calls> {
  readonly channel: Channel<Remote, Local>;
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;
  #isGone = false;

  /** Starts a program. @param program path of the file that node runs (program.ts) */
  constructor(program: string, options: ChildOptions<Remote, Local>) {
    const child = fork(program, [], {
      detached: true,
      env: { ...process.env, ...options.env },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process = child;
    this.channel = new Channel(
      {
        post: (message) => {
          if (!this.#isGone && child.connected) child.send(Object(message), () => {});
        },
        onMessage: (listener) => void child.on('message', listener),
      },
      options,
    );
    this.ended = new Promise((resolve) => {
      const onGone = () => {
        this.#isGone = true;
        this.channel.close(options.gone());
        resolve();
      };
      child.once('exit', onGone);
      // It could not be started, or not be sent a message: either way it is of no use.
      child.on('error', () => {
        child.kill('SIGKILL');
        if (child.pid === undefined) onGone();
      });
    });
  }

  /** Returns the process id; 0 if it could not be started. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  /** Closes our end of the channel. Idempotent. */
  hangUp(): void {
    if (this.#process.connected) this.#process.disconnect();
  }
}

/** Opens the channel to the process that started this one. */
export function parentChannel<Remote extends Calls, Local extends Calls>(
  options: ChannelOptions<Remote, Local>,
): Channel<Remote, Local> {
  return new Channel(
    {
      post: (message) => {
        // Without a parent there is no receiver: `disconnect` says so, and the process acts on it.
        if (process.connected) process.send?.(message, undefined, undefined, () => {});
      },
      onMessage: (listener) => void process.on('message', listener),
    },
    options,
  );
}
