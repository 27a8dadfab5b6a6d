/**
 * A client of the operator's API (protocol/operator.ts), over a daemon's unix socket.
 *
 * Every answer is checked by its schema, and given on as it came: fields that this version does not
 * know are kept.
 */
import { existsSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Pool } from 'undici';
import type * as z from 'zod';
import { type Failure, UmbraError } from '../failure/failure.ts';
import { apiSocket } from '../host/private-socket.ts';
import { refusalSchema } from '../protocol/failure.ts';
import {
  type Answer,
  LINES,
  type Line,
  type LinesName,
  OPERATIONS,
  type Operation,
  type PlainName,
  type Progress,
  type ReportOf,
  type Request,
} from '../protocol/operator.ts';
import { jsonLines } from './json-lines.ts';

// undici parses answers with WebAssembly. V8 would optimize that on another core as soon as it is
// used: 90 ms of work for a few lines, just when VMs are started or stopped.
setFlagsFromString('--no-wasm-tier-up');
setFlagsFromString('--no-wasm-dynamic-tiering');

/** A hold occupies a connection, the question for it takes another. */
const CONNECTIONS = 2;

export interface ClientOptions {
  /** Limit for the time until an answer begins, milliseconds; 0: none. */
  readonly answerLimitMs?: number;
}

export class DaemonClient {
  readonly #pool: Pool;
  readonly #cluster: string;

  /** @throws UmbraError E_DAEMON_DOWN: there is no socket */
  constructor(
    cluster: string,
    clusterDirectory: string,
    { answerLimitMs = 0 }: ClientOptions = {},
  ) {
    this.#cluster = cluster;
    const socketPath = apiSocket(clusterDirectory);
    if (!existsSync(socketPath)) throw this.#down();
    // The check of an epoch of many GiB is answered when it is done.
    this.#pool = new Pool('http://umbra', {
      connect: { socketPath },
      connections: CONNECTIONS,
      headersTimeout: answerLimitMs,
      bodyTimeout: 0,
    });
  }

  /** Asks for what is answered by one value. @throws UmbraError */
  async ask<Name extends PlainName>(
    name: Name,
    request: Request<Name> & RequestParts,
  ): Promise<Answer<Name>> {
    const body = await this.#send(name, request);
    const value: unknown = await body.json().catch((error: unknown) => {
      throw this.#lost(error);
    });
    return checked<Answer<Name>>(name, value);
  }

  /**
   * Asks for what is answered by lines, up to its end.
   * @returns the report of the last line
   * @throws UmbraError also the failure of the last line
   */
  async follow<Name extends Exclude<LinesName, 'hold'>>(
    name: Name,
    request: Request<Name> & RequestParts,
    onProgress: (progress: Progress<Name>) => void,
  ): Promise<ReportOf<Name>> {
    for await (const line of this.#lines(name, request)) {
      if (isDone<ReportOf<Name>>(line)) return line.report;
      if (isFailed(line)) throw UmbraError.received(line.failure);
      // `#lines` has checked it; that it is progress is what is left of the union.
      onProgress(line as Progress<Name>);
    }
    throw this.#lost();
  }

  /**
   * Asks the daemon to keep an epoch's files.
   * @returns the line that says so; the hold lasts until this client is closed
   */
  async hold(request: Request<'hold'>): Promise<Line<'hold'>> {
    // The lines are not read on, and not closed: the open answer is the hold.
    const { value, done } = await this.#lines('hold', request).next();
    if (done === true) throw this.#lost();
    return value as Line<'hold'>; // `#lines` has checked it
  }

  /** Yields the lines of an answer, each checked. @throws UmbraError */
  async *#lines(name: LinesName, request: RequestParts): AsyncGenerator<unknown> {
    const body = await this.#send(name, request);
    body.on('error', () => {}); // the reader below meets it, or nothing reads any more
    try {
      for await (const line of jsonLines(body)) yield checked(name, line);
    } catch (error) {
      throw error instanceof UmbraError ? error : this.#lost(error);
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  async #send<Name extends OperationName>(name: Name, request: RequestParts) {
    const { method, url }: Operation = OPERATIONS[name];
    const { params = {}, body } = request;
    const path = url.replaceAll(/:(\w+)/g, (_, part: string) =>
      encodeURIComponent(`${params[part]}`),
    );
    const content = body && {
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    };
    const answer = await this.#pool.request({ method, path, ...content }).catch((cause) => {
      if (cause.code === 'ECONNREFUSED' || cause.code === 'ENOENT') throw this.#down(cause);
      if (cause.code === 'UND_ERR_HEADERS_TIMEOUT') throw this.#silent(cause);
      throw this.#lost(cause);
    });
    if (answer.statusCode < 400) return answer.body;
    const refusal = refusalSchema.safeParse(await answer.body.json().catch(() => undefined));
    if (refusal.success) throw UmbraError.received(refusal.data.failure);
    throw unknownForm(name, refusal.error);
  }

  #lost(cause?: unknown): UmbraError {
    const message = 'the daemon ended before it had answered';
    const hint =
      'VMs run again within round.stopDeadline. Its log says why (daemon.log in the cluster’s ' +
      `folder). Start it again: umbra up --cluster ${this.#cluster}`;
    return new UmbraError({ code: 'E_DAEMON_LOST', message, hint }, cause);
  }

  #silent(cause: unknown): UmbraError {
    const message = `the daemon of cluster ${this.#cluster} does not answer`;
    const hint = `End it; VMs stay as they are: umbra down --keep-vms --cluster ${this.#cluster}`;
    return new UmbraError({ code: 'E_DAEMON_SILENT', message, hint }, cause);
  }

  #down(cause?: unknown): UmbraError {
    const message = `the daemon of cluster ${this.#cluster} does not run`;
    const hint = `Start it again (VMs are left as they are): umbra up --cluster ${this.#cluster}`;
    return new UmbraError({ code: 'E_DAEMON_DOWN', message, hint }, cause);
  }
}

function isDone<Report>(line: unknown): line is { readonly report: Report } {
  return kindOf(line) === 'done';
}

function isFailed(line: unknown): line is { readonly failure: Failure } {
  return kindOf(line) === 'failed';
}

function kindOf(line: unknown): unknown {
  return typeof line === 'object' && line !== null && 'kind' in line ? line.kind : undefined;
}

type OperationName = keyof typeof OPERATIONS;

interface RequestParts {
  readonly params?: Readonly<Record<string, unknown>>;
  readonly body?: object;
}

/**
 * Checks a value by the schema of an operation's answer, or of a line of it, and returns it
 * unchanged.
 * @throws UmbraError E_DAEMON_ANSWER
 */
function checked<Value>(name: OperationName, value: unknown): Value {
  const { schema: parts }: Operation = OPERATIONS[name];
  const success = parts.response[200];
  const schema = 'content' in success ? success.content[LINES].schema : success;
  const { error } = schema.safeParse(value);
  if (error !== undefined) throw unknownForm(name, error);
  return value as Value; // it is what the schema says: its type is inferred from it
}

function unknownForm(name: OperationName, error: z.ZodError): UmbraError {
  const [issue] = error.issues;
  const where = issue === undefined ? '' : `: ${issue.path.join('.')}: ${issue.message}`;
  const message = `the answer to ${name} has a form that this version does not know${where}`;
  return new UmbraError({ code: 'E_DAEMON_ANSWER', message }, error);
}
