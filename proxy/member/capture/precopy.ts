/** Captures by precopy: memory streams while the VM runs, the rest when it has stopped. */
import { ProcessMemory } from '../../host/process-memory.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import { type RamBlockInfo, ramBlocks } from '../qemu/memory.ts';
import { hasSwitchoverAck } from '../qemu/migration-settings.ts';
import { stopVm } from '../qemu/run-state.ts';
import { rewriteMissed } from './compare-memory.ts';
import { Pacing } from './pacing.ts';
import { isEmulated } from './precopy-support.ts';
import type { MemberRound, Ready } from './stages.ts';
import { StreamCapture } from './stream-capture.ts';
import { whyStreamEnded } from './stream-end.ts';

/**
 * Pages of its first pass that a QEMU without switchover-ack keeps back while it waits for others:
 * 8 MiB, a few milliseconds of the drain. More than the socket takes while it is not read.
 */
const KEEP_BACK_PAGES = 2048;

/** Memory of an emulated VM, for the comparison. */
interface EmulatedMemory {
  readonly memory: ProcessMemory;
  readonly blocks: readonly RamBlockInfo[];
}

interface PrecopyParts {
  readonly hasSwitchoverAck: boolean;
  /** QEMU looks for dirty pages even when it is slowed (since 8.2). */
  readonly canTrickle: boolean;
  /** Undefined for a VM that is not compared. */
  readonly emulated: EmulatedMemory | undefined;
}

export class PrecopyCapture extends StreamCapture {
  readonly mode = 'precopy';
  readonly waits = false;
  readonly #hasSwitchoverAck: boolean;
  readonly #pacing: Pacing;
  readonly #emulated: EmulatedMemory | undefined;

  static async prepare(
    round: MemberRound,
    ready: Ready,
    canTrickle: boolean,
  ): Promise<PrecopyCapture> {
    const parts = {
      hasSwitchoverAck: await hasSwitchoverAck(ready.monitor),
      canTrickle,
      emulated: await openMemory(round, ready),
    };
    return new PrecopyCapture(round, ready, parts);
  }

  private constructor(round: MemberRound, ready: Ready, parts: PrecopyParts) {
    const keepBackPages = parts.hasSwitchoverAck ? 0 : KEEP_BACK_PAGES;
    super(round, ready, { keepBackPages, mode: 'precopy' });
    this.#hasSwitchoverAck = parts.hasSwitchoverAck;
    this.#emulated = parts.emulated;
    this.#pacing = new Pacing(ready.monitor, this.intake, round.meter, parts.canTrickle);
  }

  override async begin(): Promise<void> {
    await this.listen();
    this.beginTracking();
    await this.migrate();
  }

  /** Leaves the stream unread until the coordinator's start: none converges while others open. */
  protected override onConnected(): void {
    this.round.handle({ type: 'streaming' });
  }

  protected override onAllSeen(): void {
    this.#pacing.onAllSeen();
  }

  protected override onKeptBack(): void {
    this.#pacing.keepBack();
    this.round.sampleLive();
  }

  /**
   * Compares an emulated VM, which stays stopped until the vote, and corrects what QEMU has missed.
   * Never rejects.
   */
  protected override async onWhole(result: StreamResult): Promise<void> {
    const { round } = this;
    const at = performance.now();
    if (this.#emulated !== undefined) {
      try {
        const { memory, blocks } = this.#emulated;
        const throwIfOver = () => round.throwIfOver();
        const missedPages = await rewriteMissed(memory, blocks, this.intake.sink, throwIfOver);
        round.addFacts({ missedPages, compareMs: performance.now() - at });
      } catch (error) {
        round.failed('compare', await whyStreamEnded(error, this.monitor));
        return;
      }
    }
    this.tellStreamed(result, at);
  }

  override async onTick(): Promise<void> {
    await this.#pacing.onTick();
    this.round.sampleLive();
  }

  override onPass(): void {
    this.#pacing.onPass(() => this.round.sampleLive());
  }

  override closeIn(): void {
    this.#pacing.closeIn();
  }

  override async stop(): Promise<void> {
    this.#pacing.closeIn();
    this.#pacing.end();
    const stopped = stopVm(this.monitor, this.prepare.stopDeadlineMs);
    if (this.#freezes) {
      // QEMU lets go of its disks when it switches over: they are frozen before it may.
      await stopped;
      await this.freezeDisks();
      this.round.throwIfOver();
    }
    if (this.#hasSwitchoverAck) this.intake.allowSwitchover();
    this.intake.letGo(); // until the VM has stopped, the live limit holds
    await stopped;
    this.intake.drain();
  }

  get #freezes(): boolean {
    return this.prepare.disks === 'snapshot' && this.ready.writableDisks.length > 0;
  }

  override end(): void {
    super.end();
    this.#pacing.end();
    this.#emulated?.memory.close();
  }
}

async function openMemory(
  { prepare }: MemberRound,
  { monitor }: Ready,
): Promise<EmulatedMemory | undefined> {
  const { vm, compareEmulated } = prepare;
  if (vm === undefined || !compareEmulated || !(await isEmulated(monitor))) return undefined;
  const blocks = await ramBlocks(monitor);
  return { blocks, memory: new ProcessMemory(vm) };
}
