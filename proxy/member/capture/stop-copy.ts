/** Stop-copy: the VM stops, everything is copied, it runs again. Slow, and always right. */

import { resumeStanding, stopVm } from '../qemu/run-state.ts';
import type { MemberRound } from './member-round.ts';
import type { CaptureMethod } from './method.ts';

export class StopCopyCapture implements CaptureMethod {
  readonly mode = 'stop-copy';
  readonly waits = true;
  readonly #round: MemberRound;

  constructor(round: MemberRound) {
    this.#round = round;
  }

  async open(): Promise<void> {
    await this.#round.setUp(false);
    await this.#round.receive(
      { keepBackPages: 0, mode: 'precopy' },
      { onConnected: () => this.#round.intake?.drain() }, // a VM that stands is never kept waiting
    );
    this.#round.handle({ type: 'streaming' });
  }

  async stop(): Promise<void> {
    await stopVm(this.#round.monitor, this.#round.prepare.stopDeadlineMs);
    this.#round.throwIfOver();
    await this.#round.migrate();
  }

  onStopped(): void {
    this.#round.handle({ type: 'vm-stopped' });
  }

  onResumed(): boolean {
    return true;
  }

  async resume(): Promise<void> {
    await resumeStanding(this.#round.monitor, this.#round.prepare.stopDeadlineMs);
  }

  async complete(): Promise<void> {}

  abandon(): undefined {
    this.#round.intake?.close(); // it unblocks the monitor of a stopped VM
  }

  end(): void {}
}
