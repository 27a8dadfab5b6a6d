/**
 * One row on real processes: something is under way, a process of ours freezes at its place, and somebody
 * dies. Afterwards the promises are looked at, on the VMs themselves and on the store:
 *
 *     deadline   every VM that was left runs, and none stood for longer than the deadline
 *     whole      every epoch there was is there, and every epoch that is listed verifies
 *     restore    the newest comes back, with what only the guests' memory knew
 *     goes on    the next checkpoint commits, and nothing of the broken one is left
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { EpochInfo } from '../../proxy/coordinator/epochs.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';
import { tickers } from '../support/job.ts';
import type { ChaosRow } from './rows.ts';

export const DEADLINE_MS = 4_000;
/** Epochs the cluster keeps. */
export const KEEP = 2;
/** How much longer is looked before a VM is said to stand for ever. */
const GRACE_MS = 4_000;

export interface Judgement {
  readonly row: string;
  /** `passed by`: what is under way ended without coming to the place. */
  readonly colour: 'green' | 'red' | 'passed by';
  readonly why: string;
  readonly stoodMs: number;
}

export class Judge {
  readonly #bed: Testbed;
  readonly #nonces: readonly string[];

  /** The cluster has an epoch already. */
  static async of(bed: Testbed): Promise<Judge> {
    return new Judge(bed, await noncesOf(bed));
  }

  private constructor(bed: Testbed, nonces: readonly string[]) {
    this.#bed = bed;
    this.#nonces = nonces;
  }

  /** Never rejects: what went wrong is the judgement. */
  async judge(row: ChaosRow): Promise<Judgement> {
    const bed = this.#bed;
    const watches = await Promise.all(
      [...Array(bed.nodes).keys()].map((n) => VmWatch.open(bed, n)),
    );
    try {
      // A process freezes at a place only once: all of ours are started anew.
      await bed.json('down', '--keep-vms');
      await bed.json('up', bed.file);
      const before = await this.#epochs();
      const isReached = await this.#strike(row, watches);
      if (!isReached) return { row: row.name, colour: 'passed by', why: '', stoodMs: 0 };
      const stoodMs = Math.max(...this.#left(row, watches).map((watch) => watch.longestStopMs));
      // With all of ours dead, they stand until the next life: that one is ours to begin, not theirs.
      const isPromised = row.during === 'checkpoint' && row.victim !== 'all of ours are killed';
      if (isPromised && stoodMs > DEADLINE_MS) {
        throw new Error(`a VM stood for ${Math.round(stoodMs)} ms`);
      }
      await this.#promises(before);
      return { row: row.name, colour: 'green', why: '', stoodMs };
    } catch (error) {
      return { row: row.name, colour: 'red', why: String(error), stoodMs: Number.NaN };
    } finally {
      for (const watch of watches) watch.close();
    }
  }

  /** @returns false if the command ended without anybody freezing */
  async #strike(row: ChaosRow, watches: readonly VmWatch[]): Promise<boolean> {
    const bed = this.#bed;
    const qemu = bed.pid(0) ?? 0;
    freezeAt(bed, row.place);
    if (row.during === 'restore') bed.hangUp();
    const args = row.during === 'restore' ? ['restore', '--replace'] : ['checkpoint'];
    const command = bed.umbra(...args, '--json');
    const ended = row.during === 'fold' ? new Promise<undefined>(() => {}) : command;
    const frozen = await Promise.race([frozenProcess(bed), ended.then(() => undefined)]);
    if (frozen === undefined) return false;
    const daemon = pidsOf(bed, ' serve ')[0] ?? 0;
    switch (row.victim) {
      case 'it is killed':
        process.kill(frozen, 'SIGKILL');
        break;
      case 'it is frozen':
        break;
      case 'QEMU is killed':
        kill(row.during === 'restore' ? (bed.pid(0) ?? 0) : qemu, 'SIGKILL');
        process.kill(frozen, 'SIGCONT');
        break;
      case 'the daemon is killed':
        kill(daemon, 'SIGKILL');
        process.kill(frozen, 'SIGCONT');
        break;
      case 'all of ours are killed':
        for (const pid of [daemon, ...pidsOf(bed, '/member/process.')]) kill(pid, 'SIGKILL');
        await bed.json('up', bed.file); // the next life puts right what is left
        break;
    }
    if (row.during === 'checkpoint') {
      const left = this.#left(row, watches);
      await Promise.all(left.map((watch) => watch.running(DEADLINE_MS + GRACE_MS)));
    }
    if (row.victim === 'it is frozen') kill(frozen, 'SIGCONT');
    await command;
    return true;
  }

  #left({ victim, during }: ChaosRow, watches: readonly VmWatch[]): readonly VmWatch[] {
    if (during === 'restore') return [];
    return victim === 'QEMU is killed' ? watches.slice(1) : watches;
  }

  async #promises(before: readonly number[]): Promise<void> {
    const bed = this.#bed;
    const listed = await this.#epochs();
    // Only what a newer one has pushed out may have gone.
    const known = [...new Set([...before, ...listed])].sort((a, b) => a - b);
    const lost = known.slice(-KEEP).filter((epoch) => !listed.includes(epoch));
    if (lost.length > 0) throw new Error(`epochs ${lost} are lost`);
    for (const epoch of listed) await bed.json('verify', String(epoch));
    bed.hangUp();
    await bed.json('restore', '--replace');
    const nonces = await noncesOf(bed);
    if (nonces.join() !== this.#nonces.join()) throw new Error('the guests forgot their nonces');
    await bed.json('checkpoint');
    for (let node = 0; node < bed.nodes; node++) {
      const journal = join(bed.memberDirectory(node), 'round.json');
      if (existsSync(journal)) throw new Error(`${journal} is left`);
    }
    const rounds = readdirSync(join(bed.directory, 'shadows')).filter((name) => /^r\d/.test(name));
    const epochs = await this.#epochs();
    // Each has a folder of its own, and at most one more is the base of some.
    if (rounds.length > epochs.length + 1) throw new Error(`shadows are left: ${rounds}`);
  }

  async #epochs(): Promise<number[]> {
    const { epochs } = await this.#bed.json<{ epochs: EpochInfo[] }>('epochs');
    const damaged = epochs.find(({ failure }) => failure !== undefined);
    if (damaged !== undefined) throw new Error(`epoch ${damaged.epoch}: ${damaged.failure?.code}`);
    return epochs.map(({ epoch }) => epoch);
  }
}

async function noncesOf(bed: Testbed): Promise<string[]> {
  return (await tickers(bed)).map(({ nonce }) => nonce);
}

function pidsOf(bed: Testbed, words: string): number[] {
  return [...bed.processes()].flatMap(([pid, line]) => (line.includes(words) ? [pid] : []));
}

/** It may have ended meanwhile: that is what others are for. */
function kill(pid: number, signal: 'SIGKILL' | 'SIGCONT'): void {
  try {
    if (pid > 0) process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
