/** A round as it goes on: a bar a member on a terminal, lines otherwise. */
import { MultiBar, type SingleBar } from 'cli-progress';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RoundProgress } from '../../proxy/protocol/progress.ts';
import { bytes } from './output.ts';

/** Off a terminal, a line at each change of state and no more than one this often otherwise. */
const LINE_INTERVAL_MS = 1000;

export interface ProgressView {
  show(progress: RoundProgress): void;
  /** Shows that the round waits for memory. */
  queued(failure: Failure): void;
  stop(): void;
}

export function progressView(stream: NodeJS.WriteStream, quiet: boolean): ProgressView {
  if (quiet) return { show: () => {}, queued: () => {}, stop: () => {} };
  return stream.isTTY ? new Bars(stream) : new Lines(stream);
}

class Bars implements ProgressView {
  readonly #multi: MultiBar;
  readonly #bars = new Map<string, SingleBar>();
  #queued = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#multi = new MultiBar({
      stream,
      format: '  {member} {bar} {percentage}% of RAM seen once · {sent} · {phase}',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
    });
  }

  show({ members }: RoundProgress): void {
    for (const { member, phase, sample } of members) {
      const total = sample?.totalPages || 1;
      const payload = { member, phase, sent: bytes(sample?.bytes ?? 0) };
      const bar = this.#bars.get(member) ?? this.#multi.create(total, 0, payload);
      this.#bars.set(member, bar);
      bar.setTotal(total);
      bar.update(sample?.seenPages ?? 0, payload);
    }
  }

  queued(failure: Failure): void {
    if (!this.#queued) this.#multi.log(`  queued: ${failure.message}\n`);
    this.#queued = true;
    this.#multi.update();
  }

  stop(): void {
    this.#multi.stop();
  }
}

class Lines implements ProgressView {
  readonly #stream: NodeJS.WriteStream;
  #lastState = '';
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  show({ state, members }: RoundProgress): void {
    const now = performance.now();
    if (state === this.#lastState && now - this.#lastAt < LINE_INTERVAL_MS) return;
    this.#lastState = state;
    this.#lastAt = now;
    const details = members.map(({ member, sample }) => {
      if (sample === undefined || sample.totalPages === 0) return member;
      const share = Math.floor((100 * sample.seenPages) / sample.totalPages);
      return `${member} ${share}% ${bytes(sample.bytes)}`;
    });
    this.#stream.write(`  ${state.padEnd(10)} ${details.join(' · ')}\n`);
  }

  queued(failure: Failure): void {
    if (this.#lastState === 'queued') return;
    this.#lastState = 'queued';
    this.#stream.write(`  queued     ${failure.message}\n`);
  }

  stop(): void {}
}
