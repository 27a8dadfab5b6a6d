/** Captures by stop-copy: the VM stops, all is copied, it resumes. Slow, and always right. */
import { stopVm } from '../qemu/run-state.ts';
import type { MemberRound, Ready } from './stages.ts';
import { StreamCapture } from './stream-capture.ts';

export class StopCopyCapture extends StreamCapture {
  readonly mode = 'stop-copy';
  readonly waits = true;

  constructor(round: MemberRound, ready: Ready) {
    super(round, ready, { keepBackPages: 0, mode: 'precopy' });
  }

  override async begin(): Promise<void> {
    await this.listen();
    this.beginTracking();
    this.round.handle({ type: 'streaming' });
  }

  override async stop(): Promise<void> {
    await stopVm(this.monitor, this.prepare.stopDeadlineMs);
    this.round.throwIfOver();
    await this.freezeDisks(); // before QEMU lets go of them at the end of the migration
    this.round.throwIfOver();
    await this.migrate();
  }
}
