/**
 * One guest and one member's capture, driven step by step by the test in the coordinator's place.
 * Only so can a test inspect a VM while it is stopped at the barrier.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { type StartedVm, startVm } from '../../proxy/agent/vms/vm-process.ts';
import { killProcess } from '../../proxy/host/pid-file.ts';
import { Capture } from '../../proxy/member/capture/capture.ts';
import { examineVm } from '../../proxy/member/qemu/machine.ts';
import type {
  CaptureMode,
  MemberNotice,
  RoundFacts,
  SessionMilestone,
  StagingShare,
} from '../../proxy/protocol/member.ts';
import { QmpClient } from '../../qmp/index.ts';
import { cutOf, openShadow } from '../../shadow/index.ts';
import { guestCommandLine } from '../../tools/guest/command-line.ts';
import { GuestControl } from '../../tools/guest/control.ts';
import { ensureGuestImage } from '../../tools/guest/image.ts';
import type { QemuBinary } from '../../tools/qemu/qemu.ts';
import { accelerator } from '../../tools/setup/accel.ts';
import { scratchFolder } from './scratch.ts';

const REPORT_LIMIT_MS = 300_000;

export class MemberBench {
  readonly directory: string;
  readonly vm: StartedVm;
  readonly guest: GuestControl;
  /** A monitor of the test's own, beside the member's. */
  readonly monitor: QmpClient;
  readonly commandLine: readonly string[];
  readonly notices: MemberNotice[] = [];
  capture: readonly CaptureMode[] = ['precopy', 'stop-copy'];
  compareEmulated = true;
  /** Rounds from now on store what differs from this one’s shadow. */
  base: string | undefined;
  /** The round of the newest epoch, for tracked captures. */
  parent: string | undefined;
  #capture: Capture | undefined;
  #waiters = new Set<() => void>();

  /** @param more further words of QEMU's command line */
  static async boot(
    qemu: QemuBinary,
    memoryMiB: number,
    more: readonly string[] = [],
  ): Promise<MemberBench> {
    const directory = mkdtempSync(join(scratchFolder(), 'umbra-one-'));
    const image = await ensureGuestImage();
    const accel = await accelerator({ qemu, image });
    const options = { qemu, image, accel, memoryMiB, node: 0, nodes: 1, dir: directory };
    const commandLine = guestCommandLine(options);
    const monitor = join(directory, 'test.sock');
    const words = [...commandLine, ...more, '-qmp', `unix:${monitor},server=on,wait=off`];
    const vm = await startVm(words, directory, directory);
    const guest = await GuestControl.connect(join(directory, 'control.sock'));
    await guest.waitBoot();
    return new MemberBench(directory, vm, guest, await QmpClient.connect(monitor), commandLine);
  }

  private constructor(
    directory: string,
    vm: StartedVm,
    guest: GuestControl,
    monitor: QmpClient,
    commandLine: readonly string[],
  ) {
    this.directory = directory;
    this.vm = vm;
    this.guest = guest;
    this.monitor = monitor;
    this.commandLine = commandLine;
  }

  shadowDirectory(round: string): string {
    return join(this.directory, 'shadows', round, 'n0');
  }

  /** Begins a round and brings it to the live phase, streaming. */
  async live(round: string, stopDeadlineMs = 30_000): Promise<void> {
    mkdirSync(join(this.directory, 'shadows', round), { recursive: true });
    const staging = await this.#staging();
    const location = {
      member: 'n0',
      qmp: join(this.directory, 'qmp.sock'),
      directory: this.directory,
    };
    const command = {
      type: 'prepare',
      round,
      capture: this.capture,
      cut: 'auto',
      disks: 'leave',
      hugePages: 'leave',
      compareEmulated: this.compareEmulated,
      keepFreeBytes: 0,
      diskOwner: 'bench.n0',
      memoryBound: 100,
      inFlightBytes: 64 * 2 ** 20,
      shadowDirectory: this.shadowDirectory(round),
      spareDirectory: join(this.directory, 'shadows', 'spare'),
      staging,
      examined: await examineVm(this.monitor, this.directory),
      commandLine: this.commandLine,
      workingDirectory: this.directory,
      vm: this.vm.process,
      stopDeadlineMs,
      silenceMs: stopDeadlineMs,
    } as const;
    const log = pino({ level: process.env.UMBRA_LOG ?? 'silent' });
    this.notices.length = 0;
    this.#capture = new Capture(
      location,
      command,
      (notice) => this.#take(notice),
      () => {},
      log,
    );
    this.tell('prepare');
    await this.report('admitted');
    this.tell('open');
    await this.report('live');
    this.tell('start');
    this.#capture.slot(true);
  }

  async #staging(): Promise<StagingShare> {
    const most = { moreBytes: 2 ** 30, headroomBytes: 2 ** 20, parent: await this.#parent() };
    if (this.base === undefined) return { admittedBytes: 2 ** 30, ...most };
    const directory = this.shadowDirectory(this.base);
    const { sha256 } = await openShadow(directory);
    return { base: { directory, sha256 }, admittedBytes: 16 * 2 ** 20, ...most };
  }

  async #parent(): Promise<StagingShare['parent']> {
    if (this.parent === undefined) return undefined;
    const { directory, sha256, manifest } = await openShadow(this.shadowDirectory(this.parent));
    return { directory, sha256, cut: cutOf(manifest) };
  }

  tell(type: 'prepare' | 'open' | 'start' | 'stop' | 'barrier' | 'commit' | 'abort'): void {
    this.#capture?.handle({ type });
  }

  /** Waits for a report; a failure before it is thrown. */
  report(wanted: SessionMilestone): Promise<RoundFacts> {
    return this.#until(`report ${wanted}`, () => {
      for (const notice of this.notices) {
        if (notice.type !== 'report') continue;
        if (notice.report === wanted) return notice.facts;
        if (notice.report === 'failed') throw new Error(JSON.stringify(notice.failure));
      }
      return undefined;
    });
  }

  /** Waits until QEMU has begun this pass over dirty memory. */
  async pass(wanted: number): Promise<void> {
    await this.#until(`pass ${wanted}`, () =>
      this.notices.some(
        (notice) =>
          notice.type === 'sample' && (notice.sample.waits || notice.sample.passes >= wanted),
      )
        ? true
        : undefined,
    );
  }

  async dispose(): Promise<void> {
    this.guest.close();
    this.monitor.close();
    await killProcess(this.vm.process);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #take(notice: MemberNotice): void {
    this.notices.push(notice);
    for (const waiter of this.#waiters) waiter();
  }

  #until<T>(what: string, look: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(timer);
        this.#waiters.delete(check);
        settle();
      };
      const check = () => {
        try {
          const found = look();
          if (found !== undefined) done(() => resolve(found));
        } catch (error) {
          done(() => reject(error));
        }
      };
      const timer = setTimeout(() => done(() => reject(new Error(`no ${what}`))), REPORT_LIMIT_MS);
      this.#waiters.add(check);
      check();
    });
  }
}
