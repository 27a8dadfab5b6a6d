/** Speaks to a cluster's daemon over its unix socket. */
import { existsSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Client } from 'undici';
import * as z from 'zod';
import { type Failure, UmbraError } from '../../proxy/failure/failure.ts';
import { apiSocket } from '../../proxy/host/private-socket.ts';

const failureSchema = z.looseObject({ failure: z.looseObject({ code: z.string() }) });

// undici parses answers with WebAssembly, and V8 optimizes that on another core as soon as it is used: 90 ms of
// work for a few lines, just when VMs are started or stand.
setFlagsFromString('--no-wasm-tier-up');
setFlagsFromString('--no-wasm-dynamic-tiering');

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export interface StreamLine {
  readonly kind: string;
}

export class DaemonClient {
  readonly #client: Client;
  readonly #cluster: string;

  /** @throws UmbraError E_DAEMON_DOWN */
  constructor(cluster: string, clusterDirectory: string) {
    this.#cluster = cluster;
    const socketPath = apiSocket(clusterDirectory);
    if (!existsSync(socketPath)) throw this.#down();
    // A verify of many GiB answers only when it is done.
    const patient = { headersTimeout: 0, bodyTimeout: 0 };
    this.#client = new Client('http://umbra', { connect: { socketPath }, ...patient });
  }

  async request<T>(method: Method, path: string, body?: object): Promise<T> {
    const answer = await this.#send(method, path, body);
    const value: unknown = await answer.json();
    throwFailure(value);
    return value as T;
  }

  /** Follows an answer of many lines. @returns the report of the last one */
  async stream<T>(path: string, body: object, onLine: (line: StreamLine) => void): Promise<T> {
    const answer = await this.#send('POST', path, body);
    let rest = '';
    try {
      for await (const chunk of answer.setEncoding('utf8')) {
        const lines = `${rest}${chunk}`.split('\n');
        rest = lines.pop() ?? '';
        for (const text of lines) {
          const line = JSON.parse(text) as StreamLine & { report?: T };
          throwFailure(line);
          if (line.kind === 'done' && line.report !== undefined) return line.report;
          onLine(line);
        }
      }
      if (rest !== '') throwFailure(JSON.parse(rest)); // refused; or cut off in the middle of a line
    } catch (error) {
      throw error instanceof UmbraError ? error : this.#lost(error);
    }
    throw this.#lost();
  }

  async close(): Promise<void> {
    await this.#client.destroy();
  }

  async #send(method: Method, path: string, body: object | undefined) {
    try {
      const { body: answer } = await this.#client.request({
        method,
        path,
        ...(body !== undefined && {
          body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        }),
      });
      return answer;
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ECONNREFUSED' || code === 'ENOENT') throw this.#down(cause);
      throw this.#lost(cause);
    }
  }

  #lost(cause?: unknown): UmbraError {
    const message = 'the daemon ended before it had answered';
    const hint =
      'VMs run again within round.stopDeadline. Its log says why (daemon.log in the cluster’s ' +
      `folder). Start it again: umbra up --cluster ${this.#cluster}`;
    return new UmbraError({ code: 'E_DAEMON_LOST', message, hint }, cause);
  }

  #down(cause?: unknown): UmbraError {
    const message = `the daemon of cluster ${this.#cluster} does not run`;
    const hint = `Start it again (VMs are left as they are): umbra up --cluster ${this.#cluster}`;
    return new UmbraError({ code: 'E_DAEMON_DOWN', message, hint }, cause);
  }
}

function throwFailure(value: unknown): void {
  const failed = failureSchema.safeParse(value);
  if (failed.success) throw new UmbraError(failed.data.failure as unknown as Failure);
}
