/** A bounded queue of events between QEMU, which never waits, and one reader, which may be slow. */
import { QmpError } from './errors.ts';
import type { QmpEvent } from './protocol.ts';

export const EVENT_QUEUE_LIMIT = 10_000;

export class EventQueue implements AsyncIterableIterator<QmpEvent> {
  readonly #limit: number;
  readonly #onDone: () => void;
  #queue: QmpEvent[] = [];
  #waiting: PromiseWithResolvers<IteratorResult<QmpEvent>> | undefined;
  #failure: Error | undefined;
  #done = false;

  /** @param onDone called once, when the reader leaves or the queue fails. */
  constructor(onDone: () => void, limit = EVENT_QUEUE_LIMIT) {
    this.#onDone = onDone;
    this.#limit = limit;
  }

  push(event: QmpEvent): void {
    if (this.#done) return;
    if (this.#waiting !== undefined) {
      this.#waiting.resolve({ done: false, value: event });
      this.#waiting = undefined;
    } else if (this.#queue.length >= this.#limit) {
      this.fail(new QmpError('E_QMP_OVERFLOW', `${this.#limit} QMP events were not read`));
    } else {
      this.#queue.push(event);
    }
  }

  /** Ends the iteration with an error once what is queued has been read. */
  fail(error: Error): void {
    if (this.#done) return;
    this.#failure = error;
    this.#finish();
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  next(): Promise<IteratorResult<QmpEvent>> {
    const event = this.#queue.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    this.#waiting ??= withResolvers();
    return this.#waiting.promise;
  }

  return(): Promise<IteratorResult<QmpEvent>> {
    this.#queue = [];
    this.#finish();
    this.#waiting?.resolve({ done: true, value: undefined });
    this.#waiting = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#onDone();
  }
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Returns a promise with its resolvers: Promise.withResolvers, which Node 20 lacks. */
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
