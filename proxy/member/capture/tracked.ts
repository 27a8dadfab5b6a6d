/**
 * Captures what a VM has written since the last epoch, and no more. QEMU migrates nothing: its
 * memory is read from outside, its device state is saved by a command.
 *
 *     open     [find what is written ▶ clear ▶ copy] while that is worth it (live-passes.ts)
 *     stop     stop ▶ save the device state ‖ find, clear, copy the rest ──▶ whole
 *     seal     ──▶ pending ──commit──▶ since (../tracking/ledger.ts)
 *
 * Marks are cleared while the VM runs only if none of its disks passes the kernel's cache: a page
 * that a disk reads into is pinned, and what arrives later by DMA marks nothing. While it stands
 * nothing is pinned, for QEMU has drained its disks.
 */

import { isPassWorthIt, type LivePass } from '../../../policies/index.ts';
import { type OneShadow, type RunImage, readShadowFile } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { memberFile } from '../../host/folders.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import type { StreamFigures } from '../../intake/stream-intake.ts';
import { DeviceState } from '../qemu/device-state.ts';
import { stopVm } from '../qemu/run-state.ts';
import { hasDirectDisk } from '../tracking/support.ts';
import type { FoundRun, Tracking } from '../tracking/tracking.ts';
import { WrittenCopy } from './copy-written.ts';
import { CaptureMethod } from './method.ts';
import { type LiveFacts, type MemberRound, NO_LIVE_PHASE, type Ready } from './stages.ts';

interface TrackedParts {
  readonly tracking: Tracking;
  /** The shadow that this one is stored against. */
  readonly parent: OneShadow;
  readonly images: readonly (RunImage | undefined)[];
  readonly state: DeviceState;
  /** Marks may be cleared while the VM runs. */
  readonly clearsLive: boolean;
}

export class TrackedCapture extends CaptureMethod {
  readonly mode = 'tracked';
  /** True: live passes are made before it is ready, and when it is told that the end is near. */
  readonly waits = true;
  readonly #parts: TrackedParts;
  readonly #copy: WrittenCopy;
  readonly #passes: LivePass[] = [];
  /** The live pass that is under way. */
  #passing: Promise<void> = Promise.resolve();
  #pages = 0;
  #livePages = 0;
  #stateBytes = 0;
  #live: LiveFacts = NO_LIVE_PHASE;
  #ended = false;

  static async prepare(
    round: MemberRound,
    ready: Ready,
    tracking: Tracking,
    parent: OneShadow,
  ): Promise<TrackedCapture> {
    const { monitor, shadow } = ready;
    const { disks } = round.prepare.examined;
    const clearsLive = disks.length === 0 || !(await hasDirectDisk(monitor));
    const path = memberFile(round.location.directory, 'deviceState');
    const state = await DeviceState.open(monitor, path, round.prepare.inFlightBytes);
    const images = shadow.runImages();
    const byName = new Map(images.map(({ idstr, image }) => [idstr, image]));
    const ordered = tracking.blocks.map(({ idstr }) => byName.get(idstr));
    return new TrackedCapture(round, ready, {
      tracking,
      parent,
      images: ordered,
      state,
      clearsLive,
    });
  }

  private constructor(round: MemberRound, ready: Ready, parts: TrackedParts) {
    super(round, ready);
    this.#parts = parts;
    const { vm } = round.prepare;
    if (vm === undefined) throw new Error('a tracked VM is a known process');
    this.#copy = new WrittenCopy(vm, parts.tracking, parts.images, () => round.throwIfOver());
  }

  /** Copies what earlier rounds owe, then makes live passes. */
  override async begin(): Promise<void> {
    const { tracking } = this.#parts;
    const owed = tracking.ledger.owed.map((run) => ({ ...run, absent: false }));
    await this.#take(owed);
    await this.#passWhileWorthIt();
    this.#livePages = this.#pages;
    this.round.handle({ type: 'streaming' });
  }

  override closeIn(): void {
    this.#passing = this.#passing.then(() => this.#passWhileWorthIt());
    this.#passing.catch(() => {}); // the stop waits for it, and reports
  }

  override async stop(): Promise<void> {
    await this.#passing;
    this.round.throwIfOver();
    this.#livePages = this.#pages;
    await stopVm(this.monitor, this.prepare.stopDeadlineMs);
    this.round.throwIfOver();
    const { tracking, state, parent } = this.#parts;
    const { member } = this.round.location;
    faultPoint(`tracking/${member}/state`);
    const saved = state.save(this.prepare.stopDeadlineMs);
    saved.catch(() => {}); // it may fail before it is awaited
    const at = performance.now();
    await this.#take(tracking.take());
    const copyMs = performance.now() - at;
    faultPoint(`tracking/${member}/residue`);
    const deviceState = await saved;
    this.round.throwIfOver();
    await this.freezeDisks();
    this.round.throwIfOver();
    this.#stateBytes = deviceState.length;
    const written = { writtenPages: this.#pages, residuePages: this.#pages - this.#livePages };
    this.round.addFacts({ ...written, copyMs });
    const { directory, manifest } = parent;
    const configuration = await readShadowFile(directory, manifest.configuration);
    const result = { configuration, deviceState, vmdesc: '{}' };
    const repeated = this.#passes.slice(1).reduce((sum, { pages }) => sum + pages, 0);
    this.tellWhole(result, performance.now(), repeated);
  }

  async #passWhileWorthIt(): Promise<void> {
    const { tracking, clearsLive } = this.#parts;
    if (!clearsLive) return;
    while (isPassWorthIt(tracking.countWritten(), this.#passes)) {
      const startedAt = performance.now();
      const pages = await this.#take(tracking.take());
      this.#passes.push({ pages, ms: performance.now() - startedAt });
      this.round.meter.onPass(this.#passes.length);
    }
  }

  async #take(runs: readonly FoundRun[]): Promise<number> {
    const pages = await this.#copy.copy(runs);
    this.#pages += pages;
    return pages;
  }

  override drain(): LiveFacts {
    const liveMs = this.endLivePhase();
    this.#live = { liveBytes: this.#livePages * PAGE_BYTES, liveMs, heldMs: 0, flow: [] };
    return this.#live;
  }

  override sealed(): void {
    this.#parts.tracking.ledger.pend(this.prepare.round);
  }

  override committed(): void {
    this.#parts.tracking.ledger.commit();
  }

  override end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#parts.state.close();
    this.#parts.tracking.close();
  }

  override get figures(): StreamFigures {
    const pages = this.#pages;
    const bytes = pages * PAGE_BYTES;
    const counts = { seenPages: pages, totalPages: pages, normalPages: pages, zeroPages: 0 };
    return { bytes, flowedMs: 0, ...counts, keptBack: false };
  }

  override get readBytes(): number {
    return this.#pages * PAGE_BYTES + this.#stateBytes;
  }

  override get liveBytes(): number {
    return this.#live.liveBytes;
  }

  /** Returns what the parent says: it is of the same QEMU. */
  override async identify() {
    const { machineType, name, uuid } = this.#parts.parent.manifest.identity;
    return { machineType, name, uuid };
  }

  /** Has nothing to compare: QEMU has sent no page. */
  override async requireAccounting(): Promise<void> {
    if (this.#stateBytes > 0) return;
    throw new UmbraError({ code: 'E_DEVICE_STATE', message: 'the VM’s device state is empty' });
  }

  override slot(): void {}

  override vote(): void {}

  override close(): void {}
}
