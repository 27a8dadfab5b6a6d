/** Precopy: memory streams while the VM runs, pass after pass; what is left follows when it stands. */

import { ProcessMemory } from '../../host/process-memory.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import { type RamBlockInfo, ramBlocks } from '../qemu/memory.ts';
import { hasSwitchoverAck } from '../qemu/migration-settings.ts';
import { resumeStanding, stopVm } from '../qemu/run-state.ts';
import { rewriteMissed } from './compare-memory.ts';
import type { MemberRound } from './member-round.ts';
import type { CaptureMethod, LiveCapture } from './method.ts';
import { Pacing } from './pacing.ts';
import { isEmulated } from './precopy-support.ts';
import { whyStreamEnded } from './stream-end.ts';

/**
 * What a QEMU without switchover-ack keeps of its first pass while it waits for others: 8 MiB, a few
 * milliseconds of the drain. More than what the socket takes while we are not looking.
 */
const KEEP_BACK_PAGES = 2048;

export class PrecopyCapture implements CaptureMethod, LiveCapture {
  readonly mode = 'precopy';
  readonly waits = false;
  readonly live = this;
  readonly #round: MemberRound;
  readonly #sampleLive: () => void;
  #hasSwitchoverAck = false;
  #pacing: Pacing | undefined;
  /** Of an emulated VM, and where in it is what (dirty-log.ts). */
  #memory: ProcessMemory | undefined;
  #blocks: readonly RamBlockInfo[] = [];

  /** @param sampleLive tells how far it is, if it is still live */
  constructor(round: MemberRound, sampleLive: () => void) {
    this.#round = round;
    this.#sampleLive = sampleLive;
  }

  async open(): Promise<void> {
    const round = this.#round;
    const { canTrickle } = await round.setUp(false);
    this.#hasSwitchoverAck = await hasSwitchoverAck(round.monitor);
    await this.#openMemory();
    const keepBackPages = this.#hasSwitchoverAck ? 0 : KEEP_BACK_PAGES;
    const intake = await round.receive(
      { keepBackPages, mode: 'precopy' },
      {
        // Left unread until the coordinator's start: none converges while another still opens.
        onConnected: () => round.handle({ type: 'streaming' }),
        onAllSeen: () => this.#pacing?.onAllSeen(),
        onKeptBack: () => {
          this.#pacing?.keepBack();
          this.#sampleLive();
        },
        onWhole: (result) => void this.#onWhole(result),
      },
    );
    this.#pacing = new Pacing(round.monitor, intake, round.meter, canTrickle);
    await round.migrate();
  }

  async #openMemory(): Promise<void> {
    const { monitor, prepare } = this.#round;
    const { vm, compareEmulated } = prepare;
    if (vm === undefined || !compareEmulated || !(await isEmulated(monitor))) return;
    this.#blocks = await ramBlocks(monitor);
    this.#memory = new ProcessMemory(vm);
  }

  /** The VM stands until we vote: what QEMU has missed of an emulated one is mended first. Never rejects. */
  async #onWhole(result: StreamResult): Promise<void> {
    const round = this.#round;
    const at = performance.now();
    const streamed = round.intake?.sink;
    if (this.#memory !== undefined && streamed !== undefined) {
      try {
        const throwIfOver = () => round.throwIfOver();
        const missedPages = await rewriteMissed(this.#memory, this.#blocks, streamed, throwIfOver);
        round.addFacts({ missedPages, compareMs: performance.now() - at });
      } catch (error) {
        round.failed('compare', await whyStreamEnded(error, round.monitor));
        return;
      }
    }
    round.whole(result, at);
  }

  async onTick(): Promise<void> {
    await this.#pacing?.onTick();
    this.#sampleLive();
  }

  onPass(): void {
    this.#pacing?.onPass(this.#sampleLive);
  }

  closeIn(): void {
    this.#pacing?.closeIn();
  }

  async stop(): Promise<void> {
    const { intake, monitor, prepare } = this.#round;
    this.#pacing?.closeIn();
    this.#pacing?.end();
    const stopped = stopVm(monitor, prepare.stopDeadlineMs);
    if (this.#hasSwitchoverAck) intake?.allowSwitchover();
    intake?.letGo(); // until the VM has stopped, the live limit stands
    await stopped;
    intake?.drain();
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

  end(): void {
    this.#pacing?.end();
    this.#memory?.close();
    this.#memory = undefined;
  }
}
