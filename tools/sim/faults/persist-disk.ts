/**
 * The disk of persist.to, and the processes of an agent that use it: a job that brings shadows
 * there, and a keeper of the list. Each works in steps; a step is an instant at which everything
 * may end.
 *
 *     job     chunk ─▶ chunk ─▶ … ─▶ sync
 *     keeper  publish: write ─▶ name ─▶ sync       retire: a name a step ─▶ shadows
 *
 * While the disk hangs no step ends, and a killed process ends only when it answers again.
 */
import type { Failure } from '../../../proxy/failure/failure.ts';
import type { DurableList, DurableRequest } from '../../../proxy/protocol/agent.ts';
import type { EpochManifest } from '../../../shadow/index.ts';
import type { Events } from '../events.ts';
import type { Random } from '../random.ts';

const STEP_MS = 5;
const CHUNKS = 3;
const SLOWER = 100;
/** Limit after which a disk counts as silent (proxy/agent/durable/durable-tier.ts). */
const SILENT_AFTER_MS = 20_000;

interface Step {
  readonly ms: number;
  /** Does it. @returns why not */
  readonly apply: () => Failure | undefined;
}

interface Named {
  readonly manifest: EpochManifest;
  synced: boolean;
}

/** Chunks of an epoch's shadows, and the memory they were read from. */
interface Written {
  readonly chunks: Map<number, number>;
  synced: boolean;
}

/** Memory of an epoch, which a job reads. */
export interface Source {
  /** What was in memory at the cut. */
  readonly content: number;
  /** @returns false once it cannot be read any more */
  readonly isReadable: () => boolean;
}

export class ModelledDisk {
  readonly #events: Events;
  readonly #random: Random;
  /** Epochs that the folder names, by number. */
  readonly names = new Map<number, Named>();
  /** By name: number and time of creation. */
  readonly written = new Map<string, Written>();
  readonly pins = new Set<number>();
  #highest = 0;
  #hungSinceMs = 0;
  #hungUntilMs = 0;
  #slowUntilMs = 0;
  #fullUntilMs = 0;
  /** Processes that have not ended, and since when each waits. */
  readonly #processes = new Set<ModelledDurableProcess>();

  constructor(events: Events, random: Random) {
    this.#events = events;
    this.#random = random;
  }

  get isHung(): boolean {
    return this.#events.nowMs < this.#hungUntilMs;
  }

  get isFull(): boolean {
    return this.#events.nowMs < this.#fullUntilMs;
  }

  hang(ms: number): void {
    if (!this.isHung) this.#hungSinceMs = this.#events.nowMs;
    this.#hungUntilMs = Math.max(this.#hungUntilMs, this.#events.nowMs + ms);
  }

  slow(ms: number): void {
    this.#slowUntilMs = this.#events.nowMs + ms;
  }

  fill(ms: number): void {
    this.#fullUntilMs = this.#events.nowMs + ms;
  }

  /** Returns how long a process has waited, if longer than a working disk lets one wait. */
  silentMs(): number | undefined {
    if (!this.isHung) return undefined;
    const waits = [...this.#processes].map(({ stepSinceMs }) => {
      return this.#events.nowMs - Math.max(this.#hungSinceMs, stepSinceMs);
    });
    const longest = Math.max(0, ...waits);
    return longest > SILENT_AFTER_MS ? longest : undefined;
  }

  /** Lets a step end: after its time, and when the disk answers. */
  after(ms: number, happening: () => void): void {
    const isSlow = this.#events.nowMs < this.#slowUntilMs;
    const happen = (): void => {
      if (this.isHung) this.#events.at(this.#hungUntilMs, happen);
      else happening();
    };
    this.#events.after(ms * this.#random.uniform(0.5, 1.5) * (isSlow ? SLOWER : 1), happen);
  }

  /** Tells whether chance lets a killed process end what it is at. */
  finishesStep(): boolean {
    return this.#random.next() < 0.5;
  }

  get nowMs(): number {
    return this.#events.nowMs;
  }

  run(
    steps: readonly Step[],
    ended: (failure: Failure | undefined) => void,
  ): ModelledDurableProcess {
    const process: ModelledDurableProcess = new ModelledDurableProcess(this, steps, (failure) => {
      this.#processes.delete(process);
      ended(failure);
    });
    this.#processes.add(process);
    return process;
  }

  /** Steps of a job. */
  persist(epoch: EpochManifest, { content, isReadable }: Source): Step[] {
    const name = nameOf(epoch);
    const written = (): Written => {
      const known = this.written.get(name) ?? { chunks: new Map(), synced: false };
      this.written.set(name, known);
      return known;
    };
    const chunks = Array.from({ length: CHUNKS }, (_, chunk) => ({
      ms: STEP_MS,
      apply: () => {
        if (!isReadable()) return failure('E_EPOCH_CORRUPT');
        if (this.isFull) return failure('E_DURABLE_NO_ROOM');
        const { chunks } = written();
        if (chunk === 0) chunks.clear();
        chunks.set(chunk, content);
        written().synced = false;
        return undefined;
      },
    }));
    const sync = {
      ms: STEP_MS,
      apply: () => {
        written().synced = true;
        return undefined;
      },
    };
    return [...chunks, sync];
  }

  /** Steps of the keeper of the list. */
  answer(request: DurableRequest): Step[] {
    switch (request.type) {
      case 'look':
        return [step(() => {})];
      case 'publish':
        return this.#publish(request.epoch);
      case 'retire':
        return [
          ...request.epochs.map((epoch) =>
            step(() => {
              this.names.delete(epoch);
              this.pins.delete(epoch);
            }),
          ),
          step(() => this.#removeUnnamed()),
        ];
      case 'pin':
        return [
          step(() => {
            if (request.pinned) this.pins.add(request.epoch);
            else this.pins.delete(request.epoch);
          }),
        ];
      case 'collect':
        return [step(() => this.#removeUnnamed())];
    }
  }

  #publish(manifest: EpochManifest): Step[] {
    const { epoch } = manifest;
    const check = () => {
      const there = this.names.get(epoch)?.manifest;
      if (this.isFull) return failure('E_DURABLE_NO_ROOM');
      return there !== undefined && nameOf(there) !== nameOf(manifest)
        ? failure('E_EPOCH_EXISTS')
        : undefined;
    };
    return [
      { ms: STEP_MS, apply: check },
      step(() => {
        this.#highest = Math.max(this.#highest, epoch);
        this.names.set(epoch, { manifest, synced: false });
      }),
      step(() => {
        const named = this.names.get(epoch);
        if (named !== undefined) named.synced = true;
      }),
    ];
  }

  #removeUnnamed(): void {
    const named = new Set([...this.names.values()].map(({ manifest }) => nameOf(manifest)));
    for (const name of [...this.written.keys()]) if (!named.has(name)) this.written.delete(name);
  }

  list(): DurableList {
    const epochs = [...this.names.values()]
      .map(({ manifest }) => manifest)
      .sort((a, b) => a.epoch - b.epoch);
    const nextEpoch = Math.max(this.#highest, ...this.names.keys()) + 1;
    return { epochs, damaged: [], pinned: [...this.pins], nextEpoch, doubt: undefined };
  }

  /** Tells whether all of an epoch is on disk, and is that memory. */
  isWhole(manifest: EpochManifest, content: number): boolean {
    const chunks = this.written.get(nameOf(manifest))?.chunks;
    return chunks?.size === CHUNKS && [...chunks.values()].every((one) => one === content);
  }

  /** Cuts the power: what is not synced may be there afterwards, or not. */
  losePower(): void {
    for (const process of this.#processes) process.vanish();
    this.#processes.clear();
    this.#hungUntilMs = 0;
    for (const [name, { synced }] of [...this.written]) if (!synced) this.written.delete(name);
    for (const [epoch, { synced }] of [...this.names]) {
      if (!synced && this.#random.next() < 0.5) this.names.delete(epoch);
    }
  }
}

export class ModelledDurableProcess {
  readonly #disk: ModelledDisk;
  readonly #steps: readonly Step[];
  readonly #ended: (failure: Failure | undefined) => void;
  /** Since when it is at its step, milliseconds. */
  stepSinceMs = 0;
  #killed = false;
  #over = false;

  constructor(
    disk: ModelledDisk,
    steps: readonly Step[],
    ended: (failure: Failure | undefined) => void,
  ) {
    this.#disk = disk;
    this.#steps = steps;
    this.#ended = ended;
    this.#next(0);
  }

  get isOver(): boolean {
    return this.#over;
  }

  kill(): void {
    if (this.#over) return;
    this.#killed = true;
    if (!this.#disk.isHung) this.#end(failure('E_DURABLE_LOST'));
  }

  /** Ends it at once, as the power is cut. */
  vanish(): void {
    this.#over = true;
  }

  #next(at: number): void {
    const step = this.#steps[at];
    if (step === undefined) {
      this.#end(undefined);
      return;
    }
    this.stepSinceMs = this.#disk.nowMs;
    this.#disk.after(step.ms, () => {
      if (this.#over) return;
      const failed = this.#killed && !this.#disk.finishesStep() ? undefined : step.apply();
      if (this.#killed) this.#end(failure('E_DURABLE_LOST'));
      else if (failed !== undefined) this.#end(failed);
      else this.#next(at + 1);
    });
  }

  #end(outcome: Failure | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#ended(outcome);
  }
}

export function nameOf({ epoch, createdAt }: EpochManifest): string {
  return `${epoch} ${createdAt}`;
}

export function failure(code: string): Failure {
  return { code, message: code };
}

function step(apply: () => void): Step {
  return {
    ms: STEP_MS,
    apply: () => {
      apply();
      return undefined;
    },
  };
}
