/**
 * One row on real processes. While a command is under way, an Umbra process freezes at its place,
 * and a process is killed, or a disk is full, slow or hung. Afterwards the promises are checked, on
 * the VMs themselves and on the store:
 *
 *     deadline   every remaining VM runs, and none was stopped for longer than the deadline
 *     kept       a checkpoint that was reported is listed, and its barrier held
 *     whole      every earlier epoch is there, and every listed one verifies, in memory and on disk
 *     no part    after a restore, all VMs run or none is left
 *     on disk    an epoch that was to be persisted is persisted as soon as that is possible
 *     restore    the newest epoch is restored, from memory or from disk, with the nonces that only
 *                guests' memory held, and in all guests with the mark of that epoch's cut
 *     goes on    the next checkpoint commits, and nothing of the broken one is left
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EpochInfo } from '../../proxy/protocol/epoch.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';
import { tickers } from '../support/job.ts';
import { type ChaosBed, DEADLINE_MS, KEEP } from './bed.ts';
import { beginsTracking, type ChaosRow } from './rows.ts';

/** Additional time after which a VM that is still stopped counts as stopped for ever. */
const GRACE_MS = 60_000;
/** Limit for folding and persisting, which have the lowest priority. */
const BACKGROUND_LIMIT_MS = 600_000;
const POLL_MS = 100;
/** Time for which a daemon is frozen that then continues. */
const FREEZE_MS = 2_000;
/** Time for which a QEMU is frozen; the round has to end without it. */
const FROZEN_QEMU_MS = 2 * DEADLINE_MS;
/** Rate of a slow disk. */
const SLOW_BYTES_PER_SECOND = 2 * 2 ** 20;
/**
 * Limit for commands that do not use the disk: if one waited for a hung disk, it would never end.
 */
const COMMAND_LIMIT_MS = 180_000;
/** Limit for the answer of an idle guest. */
const ANSWER_LIMIT_MS = 60_000;
const LAST_WORDS_BYTES = 4_000;
/** Name of a round's folder in the store. */
const ROUND_FOLDER = /^r\d/;

export interface Judgement {
  readonly row: string;
  /** `passed by`: the command ended without a process coming to the place. */
  readonly colour: 'green' | 'red' | 'passed by';
  readonly why: string;
  readonly stoodMs: number;
  /** Pages in the row's epochs that QEMU's dirty log had missed (capture/precopy-support.ts). */
  readonly missedPages?: number;
}

export class Judge {
  readonly #chaos: ChaosBed;
  readonly #bed: Testbed;
  readonly #nonces: readonly string[];
  /** Mark that guests had written before an epoch was taken, by the epoch's number. */
  readonly #marks = new Map<number, string>();
  #mark = 'mark-0';
  /** Epoch that the last checkpoint reported, if it did. */
  #reported: number | undefined;
  #missedPages = 0;

  static async of(chaos: ChaosBed): Promise<Judge> {
    return new Judge(chaos, await noncesOf(chaos.cluster));
  }

  private constructor(chaos: ChaosBed, nonces: readonly string[]) {
    this.#chaos = chaos;
    this.#bed = chaos.cluster;
    this.#nonces = nonces;
  }

  /** Judges a row. Never rejects: an error makes a red judgement. */
  async judge(row: ChaosRow): Promise<Judgement> {
    const bed = this.#bed;
    this.#missedPages = 0;
    const watches = await Promise.all(
      [...Array(bed.nodes).keys()].map((n) => VmWatch.open(bed, n)),
    );
    try {
      // A process freezes at a place only once: all Umbra processes are restarted.
      await bed.json('down', '--keep-vms');
      await bed.json('up', bed.file);
      if (beginsTracking(row)) await bed.json('untrack', 'n0');
      else if (this.#chaos.kind === 'tracked') await this.#checkpoint(); // the base
      const before = await this.#epochs();
      if (isFromDisk(row)) await this.#onDisk(before.at(-1) ?? 0);
      const isReached = await this.#strike(row, watches, before.at(-1) ?? 0);
      if (!isReached) return { row: row.name, colour: 'passed by', why: '', stoodMs: 0 };
      const left = this.#left(row, watches);
      // A proxy that was frozen may stop its VM only now, and learn afterwards that the round is
      // over.
      await Promise.all(left.map((watch) => watch.settled(DEADLINE_MS + GRACE_MS)));
      const stoodMs = Math.max(...left.map((watch) => watch.longestStopMs));
      // With all Umbra processes dead, VMs stay stopped until the test starts a daemon: no promise.
      const isPromised = row.during !== 'restore' && row.victim !== 'all of ours are killed';
      if (isPromised && stoodMs > DEADLINE_MS) {
        throw new Error(`a VM stood for ${Math.round(stoodMs)} ms`);
      }
      await this.#promises(row, before);
      const missedPages = this.#missedPages;
      return { row: row.name, colour: 'green', why: '', stoodMs, missedPages };
    } catch (error) {
      const why = `${error}; ${await this.#scene()}`;
      return { row: row.name, colour: 'red', why, stoodMs: Number.NaN };
    } finally {
      for (const watch of watches) watch.close();
      await this.#chaos.mend();
      this.#chaos.empty();
    }
  }

  /** Describes the state that a red row leaves behind, before it is repaired. */
  async #scene(): Promise<string> {
    const bed = this.#bed;
    bed.hangUp();
    const { stdout } = await bed.umbra('status', '--json');
    const guests = [...Array(bed.nodes).keys()].map(async (node) => {
      const control = await bed.guest(node);
      await control.waitBoot({ timeoutMs: ANSWER_LIMIT_MS });
    });
    const answers = await Promise.allSettled(guests);
    const words = answers.map((one, node) => {
      if (one.status === 'fulfilled') return `n${node}’s guest answers`;
      return `n${node}’s guest: ${one.reason}${bed.lastWords(node)}`;
    });
    const log = readFileSync(join(bed.directory, 'daemon.log'), 'utf8').slice(-LAST_WORDS_BYTES);
    return `status ${stdout.trim()}; ${words.join('; ')}\ndaemon.log: ${log}`;
  }

  /** Lets the row's fault happen. @returns false if the command ended and no process had frozen */
  async #strike(row: ChaosRow, watches: readonly VmWatch[], newest: number): Promise<boolean> {
    const bed = this.#bed;
    const qemu = bed.pid(0) ?? 0;
    this.#reported = undefined;
    await this.#writeMark();
    freezeAt(bed, row.location);
    if (row.during === 'restore') bed.hangUp();
    const command = bed.umbra(...commandOf(row), '--json');
    const freezing = frozenProcess(bed, BACKGROUND_LIMIT_MS);
    const frozen = await Promise.race([freezing, this.#ended(row, command)]);
    if (frozen === undefined) return false;
    const daemon = pidsOf(bed, ' serve ')[0] ?? 0;
    switch (row.victim) {
      case 'it is killed':
        process.kill(frozen, 'SIGKILL');
        break;
      case 'it is frozen':
        if (row.during === 'restore') await (frozen === daemon ? delay(FREEZE_MS) : command);
        break;
      case 'QEMU is killed':
        kill(row.during === 'restore' ? this.#firstVm() : qemu, 'SIGKILL');
        process.kill(frozen, 'SIGCONT');
        break;
      case 'QEMU is frozen':
        process.kill(qemu, 'SIGSTOP');
        try {
          process.kill(frozen, 'SIGCONT');
          await Promise.race([command, delay(FROZEN_QEMU_MS)]);
        } finally {
          process.kill(qemu, 'SIGCONT');
        }
        await watches[0]?.running(DEADLINE_MS + GRACE_MS);
        break;
      case 'the daemon is killed':
        kill(daemon, 'SIGKILL');
        process.kill(frozen, 'SIGCONT');
        break;
      case 'all of ours are killed':
        for (const pid of [daemon, frozen, ...pidsOf(bed, '/member/process.')]) {
          kill(pid, 'SIGKILL');
        }
        await this.#up(row); // the next daemon repairs what is left
        break;
      case 'no room is left':
        this.#chaos.fill();
        process.kill(frozen, 'SIGCONT');
        break;
      case 'the disk is slow':
        await this.#chaos.disk.pace(SLOW_BYTES_PER_SECOND);
        process.kill(frozen, 'SIGCONT');
        break;
      case 'the disk hangs':
        this.#chaos.disk.hang();
        process.kill(frozen, 'SIGCONT');
        await command;
        await this.#goesOnWithoutDisk();
        this.#chaos.disk.resume();
        break;
    }
    if (row.during !== 'restore') {
      const left = this.#left(row, watches);
      await Promise.all(left.map((watch) => watch.running(DEADLINE_MS + GRACE_MS)));
    }
    if (row.victim === 'it is frozen') kill(frozen, 'SIGCONT');
    const { code, stdout } = await command;
    this.#chaos.empty();
    if (row.during !== 'restore') {
      if (code === 0) this.#noteReported(stdout);
      return true;
    }
    const isToSucceed = row.victim === 'it is frozen' && frozen === daemon;
    if (isToSucceed && code !== 0) throw new Error(`the restore failed: ${stdout}`);
    await this.#completedOrUndone(row, code, newest);
    return true;
  }

  /** @param reported what a checkpoint that succeeded has printed */
  #noteReported(reported: string): void {
    const report = JSON.parse(reported.trim().split('\n').at(-1) ?? '') as RoundReport;
    if (!report.barrierHeld) throw new Error(`the barrier of epoch ${report.epoch} did not hold`);
    this.#reported = report.epoch;
    this.#countMissed(report);
  }

  /** Writes a mark that only the next epoch's memory contains. */
  async #writeMark(): Promise<void> {
    this.#mark = `mark-${Number(this.#mark.slice('mark-'.length)) + 1}`;
    for (let node = 0; node < this.#bed.nodes; node++) {
      await this.#bed.shell(node, `echo ${this.#mark} >/run/mark`);
    }
  }

  async #checkpoint(): Promise<void> {
    await this.#writeMark();
    const report = await this.#bed.json<RoundReport>('checkpoint');
    this.#marks.set(report.epoch ?? 0, this.#mark);
    this.#countMissed(report);
  }

  #countMissed({ members }: RoundReport): void {
    for (const { missedPages = 0 } of members) this.#missedPages += missedPages;
  }

  async #goesOnWithoutDisk(): Promise<void> {
    const startedAt = performance.now();
    await this.#bed.json('checkpoint');
    const { members } = await this.#bed.json<ClusterStatus>('status');
    if (!members.every(({ running }) => running)) throw new Error('a VM waits for the disk');
    const tookMs = performance.now() - startedAt;
    if (tookMs > COMMAND_LIMIT_MS) throw new Error(`they waited for the disk: ${tookMs} ms`);
  }

  /** Starts the daemon. A cluster that was restored in part is not booted but restored again. */
  async #up({ during }: ChaosRow): Promise<void> {
    const words = during === 'restore' ? ['--no-boot'] : [];
    await this.#bed.json('up', this.#bed.file, ...words);
  }

  /**
   * Checks that an interrupted restore has completed or was undone.
   * @param code exit status of the restore's command
   */
  async #completedOrUndone(row: ChaosRow, code: number, epoch: number): Promise<void> {
    const bed = this.#bed;
    await this.#up(row);
    const vms = pidsOf(bed, 'watch.sock'); // only a VM has this in its command line
    if (vms.length === 0 && code !== 0) return;
    const { members } = await bed.json<ClusterStatus>('status');
    const running = members.filter((member) => member.running);
    if (vms.length !== bed.nodes || running.length !== bed.nodes) {
      const left = `${vms.length} VMs are left, ${running.length} run`;
      throw new Error(`of a restore that ended with status ${code}, ${left}`);
    }
    // A restore that failed before it ended a VM has left them unchanged.
    await this.#remember(epoch, code === 0 ? [] : [this.#mark]);
  }

  /**
   * Checks that all guests have the nonces, and the mark of one epoch.
   * @param or marks that all of them may have instead
   */
  async #remember(epoch: number, or: readonly string[] = []): Promise<void> {
    const bed = this.#bed;
    bed.hangUp();
    const nonces = await noncesOf(bed);
    if (nonces.join() !== this.#nonces.join()) throw new Error('the guests forgot their nonces');
    const marks = new Set<string>();
    for (let node = 0; node < bed.nodes; node++) {
      marks.add((await bed.shell(node, 'cat /run/mark 2>/dev/null || true')).trim());
    }
    const wanted = this.#marks.get(epoch);
    const isKnown = wanted === undefined || [wanted, ...or].some((mark) => marks.has(mark));
    if (marks.size === 1 && isKnown) return;
    throw new Error(`of epoch ${epoch} (${wanted}), guests know ${[...marks].join(', ')}`);
  }

  /** Returns the first VM's pid: in a restore not every member has a VM. */
  #firstVm(): number {
    const nodes = [...Array(this.#bed.nodes).keys()];
    const node = nodes.find((n) => existsSync(join(this.#bed.memberDirectory(n), 'vm.json')));
    return node === undefined ? 0 : this.#bed.pid(node);
  }

  /** Waits for the command, and for work that continues after it: folding and persisting. */
  async #ended({ during }: ChaosRow, command: Promise<unknown>): Promise<undefined> {
    await command;
    const goesOn = during === 'fold' || during === 'persist';
    if (goesOn) await delay(BACKGROUND_LIMIT_MS, undefined, { ref: false });
  }

  #left({ victim, during }: ChaosRow, watches: readonly VmWatch[]): readonly VmWatch[] {
    if (during === 'restore') return [];
    const isOfQemu = victim === 'QEMU is killed' || victim === 'QEMU is frozen';
    return isOfQemu ? watches.slice(1) : watches;
  }

  async #promises(row: ChaosRow, before: readonly number[]): Promise<void> {
    const bed = this.#bed;
    const { during } = row;
    // No command has restarted a daemon that was killed in background work.
    if (pidsOf(bed, ' serve ').length === 0) await this.#up(row);
    const listed = await this.#epochs();
    for (const epoch of listed) if (!before.includes(epoch)) this.#marks.set(epoch, this.#mark);
    // Only epochs that newer ones have replaced may be gone.
    const reported = this.#reported === undefined ? [] : [this.#reported];
    const known = [...new Set([...before, ...reported, ...listed])].sort((a, b) => a - b);
    const lost = known.slice(-KEEP).filter((epoch) => !listed.includes(epoch));
    if (lost.length > 0) throw new Error(`epochs ${lost} are lost`);
    if (during === 'persist') await this.#onDisk(listed.at(-1) ?? 0);
    await this.#chaos.mend();
    for (const epoch of await this.#epochs()) await this.#verify(epoch);
    bed.hangUp();
    const from = during === 'persist' ? ['--from', 'disk'] : [];
    const { epoch } = await bed.json<RestoreReport>('restore', '--replace', ...from);
    if (epoch !== listed.at(-1)) throw new Error(`epoch ${epoch} was restored, of ${listed}`);
    await this.#remember(epoch);
    await this.#checkpoint();
    for (let node = 0; node < bed.nodes; node++) {
      const journal = join(bed.memberDirectory(node), 'round.json');
      if (existsSync(journal)) throw new Error(`${journal} is left`);
    }
    if (this.#chaos.kind !== 'small store') await this.#nothingLeft();
  }

  /** Verifies an epoch. One that is retired meanwhile, as a newer one is on disk, is no loss. */
  async #verify(epoch: number): Promise<void> {
    const { code, stdout } = await this.#bed.umbra('verify', String(epoch), '--json');
    if (code === 0 || !(await this.#epochs()).includes(epoch)) return;
    throw new Error(`epoch ${epoch} does not verify: ${stdout}`);
  }

  async #onDisk(epoch: number): Promise<void> {
    for (const end = performance.now() + BACKGROUND_LIMIT_MS; ; await delay(POLL_MS)) {
      const { epochs } = await this.#bed.json<{ epochs: EpochInfo[] }>('epochs');
      if (epochs.some((one) => one.epoch === epoch && one.onDisk)) return;
      if (performance.now() > end) throw new Error(`epoch ${epoch} does not get to disk`);
    }
  }

  /** Checks the store: a folder for each epoch, and one more at most, a base or one being made. */
  async #nothingLeft(): Promise<void> {
    const shadows = join(this.#bed.directory, 'shadows');
    const rounds = readdirSync(shadows).filter((name) => ROUND_FOLDER.test(name));
    const more = { fold: 2, tracked: 4 }[this.#chaos.kind as string] ?? 1;
    const epochs = await this.#epochs();
    if (rounds.length > epochs.length + more) throw new Error(`shadows are left: ${rounds}`);
  }

  async #epochs(): Promise<number[]> {
    const { epochs } = await this.#bed.json<{ epochs: EpochInfo[] }>('epochs');
    const damaged = epochs.find(({ failure }) => failure !== undefined);
    if (damaged !== undefined) throw new Error(`epoch ${damaged.epoch}: ${damaged.failure?.code}`);
    return epochs.map(({ epoch }) => epoch);
  }
}

function isFromDisk({ during, bed }: ChaosRow): boolean {
  return during === 'restore' && bed === 'disk';
}

function commandOf(row: ChaosRow): string[] {
  if (row.during !== 'restore') return ['checkpoint'];
  return ['restore', '--replace', ...(isFromDisk(row) ? ['--from', 'disk'] : [])];
}

async function noncesOf(bed: Testbed): Promise<string[]> {
  return (await tickers(bed)).map(({ nonce }) => nonce);
}

function pidsOf(bed: Testbed, words: string): number[] {
  return [...bed.processes()].flatMap(([pid, line]) => (line.includes(words) ? [pid] : []));
}

/** Sends a signal to a process, unless it has rightly been ended meanwhile. */
function kill(pid: number, signal: 'SIGKILL' | 'SIGCONT'): void {
  try {
    if (pid > 0) process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
