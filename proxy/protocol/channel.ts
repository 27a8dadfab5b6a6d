/**
 * One typed channel between two processes: requests, their answers, and messages without one.
 *
 *     call ── request {id} ──▶ handler        tell ── message ──▶ handler
 *          ◀── result or failure {id} ──
 *
 * What each side takes and gives is described by schemas (Calls). Both check what they receive:
 * after an upgrade, a process may find one of another version at the other end. Ids, and the list
 * of requests that wait for an answer, are birpc's.
 */
import { type BirpcReturn, createBirpc } from 'birpc';
import * as z from 'zod';
import { type Failure, toFailure, UmbraError } from '../failure/failure.ts';
import { failureSchema } from './failure.ts';

/** A request, or, without `gives`, a message that is not answered. */
export interface Call {
  readonly takes: z.ZodType;
  readonly gives?: z.ZodType;
}
export type Calls = Readonly<Record<string, Call>>;

/** The names of the requests among some calls. */
export type Requests<C extends Calls> = {
  [N in keyof C]: C[N] extends { gives: z.ZodType } ? N : never;
}[keyof C];
export type Takes<C extends Calls, N extends keyof C> = z.infer<C[N]['takes']>;
export type Gives<C extends Calls, N extends keyof C> = C[N] extends {
  gives: infer G extends z.ZodType;
}
  ? z.infer<G>
  : undefined;

/** Functions that carry out the calls a side receives. */
export type Handlers<C extends Calls> = {
  readonly [N in keyof C]: (
    argument: Takes<C, N>,
  ) => N extends Requests<C> ? Promise<Gives<C, N>> : void;
};

/** One end of a pipe for structured clones: a child process, or the process to its parent. */
export interface Port {
  /** Sends a message; it is lost if the other side has gone. */
  post(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
}

export interface ChannelOptions<Remote extends Calls, Local extends Calls> {
  /** Calls that the other side takes. */
  readonly remote: Remote;
  /** Calls that this side takes. */
  readonly local: Local;
  readonly handlers: Handlers<Local>;
  /** Added to failures that this side sends. */
  readonly context?: Pick<Failure, 'member'>;
  /** Called for every message that arrives, before it is handled. */
  readonly onHeard?: () => void;
  /** Called for a message (not a request) that does not fit its schema, and is dropped. */
  readonly onMisfit: (failure: Failure) => void;
}

type Wire =
  | { t: 'q'; m: string; a: unknown[]; i?: string }
  | { t: 's'; i: string; r?: unknown; e?: unknown };

export class Channel<Remote extends Calls, Local extends Calls> {
  readonly #remote: Remote;
  readonly #rpc: BirpcReturn<Record<string, (argument: unknown) => unknown>, object, false>;
  #closed: UmbraError | undefined;

  constructor(port: Port, options: ChannelOptions<Remote, Local>) {
    const { remote, onHeard = () => {}, onMisfit } = options;
    this.#remote = remote;
    this.#rpc = createBirpc(functionsOf(options), {
      proxify: false,
      timeout: -1, // callers have limits of their own
      post: (message) => port.post(message),
      on: (listener) =>
        port.onMessage((message) => {
          onHeard();
          listener(message);
        }),
      serialize: toWire,
      deserialize: (message) => fromWire(message, onMisfit),
      // A result that cannot be sent becomes a failure, which can; other errors are the caller's.
      onGeneralError: (_, name) => name !== undefined,
    });
  }

  /**
   * Sends a request, and waits for its answer.
   * @throws UmbraError with the other side's failure, E_PROTOCOL for an answer that does not fit,
   * or the error that the channel was closed with
   */
  async call<N extends Requests<Remote> & string>(
    name: N,
    argument: Takes<Remote, N>,
  ): Promise<Gives<Remote, N>> {
    if (this.#closed !== undefined) throw this.#closed;
    const result = await this.#rpc.$call(name, argument);
    return checked(this.#remote[name]?.gives, result, `the answer to ${name}`) as Gives<Remote, N>;
  }

  /** Sends a message that is not answered. */
  tell<N extends Exclude<keyof Remote, Requests<Remote>> & string>(
    name: N,
    argument: Takes<Remote, N>,
  ): void {
    void this.#rpc.$callEvent(name, argument);
  }

  /** Rejects the requests that wait for an answer. */
  refuse(error: UmbraError): void {
    this.#rpc.$rejectPendingCalls(({ reject }) => reject(error));
  }

  /** Rejects the requests that wait for an answer, and those to come: the other side is gone. */
  close(error: UmbraError): void {
    this.#closed = error;
    this.refuse(error);
  }
}

/** Makes the functions that birpc calls: their arguments are checked, their failures located. */
function functionsOf<Remote extends Calls, Local extends Calls>(
  options: ChannelOptions<Remote, Local>,
): object {
  const { local, handlers, context = {}, onMisfit } = options;
  const functions: Record<string, (argument: unknown) => unknown> = Object.create(null);
  for (const [name, { takes, gives }] of Object.entries(local)) {
    const handler: (argument: Takes<Local, string>) => unknown = handlers[name as keyof Local];
    const take = (argument: unknown) =>
      handler(checked(takes, argument, name) as Takes<Local, string>);
    functions[name] = async (argument) => {
      try {
        return await take(argument);
      } catch (error) {
        const failure = toFailure(error, { ...context, where: name });
        if (gives !== undefined) throw UmbraError.received(failure, error);
        if (failure.code === 'E_PROTOCOL') onMisfit(failure);
        else process.nextTick(() => rethrow(error)); // a fault of ours: it must not be lost
        return undefined;
      }
    };
  }
  return functions;
}

function rethrow(error: unknown): never {
  throw error;
}

/** Returns a value that fits its schema. @throws UmbraError E_PROTOCOL if it does not */
function checked(schema: z.ZodType | undefined, value: unknown, what: string): unknown {
  if (schema === undefined) return value;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const message = `${what} does not fit: ${z.prettifyError(parsed.error)}`;
  throw new UmbraError({ code: 'E_PROTOCOL', message });
}

/** A message that birpc ignores. */
const ANSWER_TO_NONE: Wire = { t: 's', i: '' };

/** Turns an Error into a failure: an Error loses its code on the way. */
function toWire(message: Wire): Wire {
  if (message.t === 'q' || message.e === undefined) return message;
  return { ...message, e: toFailure(message.e, {}) };
}

function fromWire(message: unknown, onMisfit: (failure: Failure) => void): unknown {
  const parsed = wireSchema.safeParse(message);
  if (!parsed.success) {
    onMisfit({ code: 'E_PROTOCOL', message: 'what has arrived is no message of this channel' });
    return ANSWER_TO_NONE;
  }
  const { data } = parsed;
  return data.t === 's' && data.e !== undefined
    ? { ...data, e: UmbraError.received(data.e) }
    : data;
}

const wireSchema = z.union([
  z.looseObject({ t: z.literal('q'), m: z.string(), a: z.array(z.unknown()) }),
  z.looseObject({ t: z.literal('s'), i: z.string(), e: failureSchema.optional() }),
]);
