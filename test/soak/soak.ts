/**
 * MPI jobs in a loop on one cluster with one daemon:
 *
 *     ┌─▶ job ──▶ checkpoint ──▶ ( incident )* ──▶ verified ──▶ sample ─┐
 *     └─────────────────────────────────────────────────────────────────┘
 *
 *     incident   checkpoint │ restore │ VMs die, restore │ proxy dies
 *
 * Incidents and their times are drawn from a seed. Only epochs of the present job are restored, so
 * that every started job has to end with a correct result.
 */
import { watch } from 'node:fs';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { Random } from '../../tools/sim/random.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import { casesPassed, endJob, jobRuns, startJob, tickers } from '../support/job.ts';
import { footprint } from './footprint.ts';
import type { Sample } from './growth.ts';

/** Factors of a job's number of systems: block sizes × shapes, for xdlu takes no prime number. */
const CASES = { least: 5, most: 8 };
const ORDER = { least: 100, most: 240 };
/** Number of incidents of one job. */
const INCIDENTS = { least: 1, most: 4 };
/** Number of cases between two incidents. */
const APART = { least: 1, most: 6 };
/** File that a proxy writes before it changes anything of its VM. */
const JOURNAL = 'round.json';
/** Latest moment of a kill after a proxy has begun: a round is over by then. */
const MOMENT_MAX_MS = 400;

export interface Tally {
  started: number;
  verified: number;
  epochs: number;
  restores: number;
  /** Rounds that were broken on purpose and ended with an error, without an epoch. */
  aborted: number;
  incidents: Record<Incident, number>;
}

export type Incident = 'checkpoint' | 'rollback' | 'all VMs die' | 'one VM dies' | 'a proxy dies';

export class Soak {
  readonly tally: Tally = {
    started: 0,
    verified: 0,
    epochs: 0,
    restores: 0,
    aborted: 0,
    incidents: {
      checkpoint: 0,
      rollback: 0,
      'all VMs die': 0,
      'one VM dies': 0,
      'a proxy dies': 0,
    },
  };
  readonly samples: Sample[] = [];
  readonly #bed: Testbed;
  readonly #random: Random;
  readonly #say: (line: string) => void;
  readonly #startedAt = performance.now();
  /** Epochs of the present job. */
  #epochs: number[] = [];

  /** @param bed cluster that is up */
  constructor(bed: Testbed, random: Random, say: (line: string) => void) {
    this.#bed = bed;
    this.#random = random;
    this.#say = say;
  }

  /**
   * Runs one job with its incidents. @throws Error when a promise is broken, which ends the soak
   */
  async job(): Promise<void> {
    const random = this.#random;
    const bed = this.#bed;
    const cases = random.integer(CASES.least, CASES.most) * random.integer(CASES.least, CASES.most);
    const order = random.integer(ORDER.least, ORDER.most);
    this.#epochs = [];
    this.tally.started += 1;
    await startJob(bed, { cases, order });
    const nonces = await this.#nonces();
    await jobRuns(bed, 1);
    await this.#checkpoint();
    const story: string[] = [];
    for (let left = random.integer(INCIDENTS.least, INCIDENTS.most); left > 0; left--) {
      const passed = await casesPassed(bed);
      await jobRuns(bed, passed + random.integer(APART.least, APART.most));
      const incident = this.#choose();
      story.push(await this.#enact(incident));
      this.tally.incidents[incident] += 1;
    }
    const { code, output } = await endJob(bed);
    if (code !== 0) throw new Error(`the job is wrong (${story}): ${output}`);
    if ((await this.#nonces()) !== nonces) throw new Error(`the guests forgot (${story})`);
    this.tally.verified += 1;
    const sample = footprint(bed, performance.now() - this.#startedAt);
    this.samples.push(sample);
    this.#say(`job ${this.tally.started}: ${cases} × ${order}; ${story.join('; ')}; verified`);
  }

  #choose(): Incident {
    return this.#random.choice<Incident>(
      'checkpoint',
      'checkpoint',
      'rollback',
      'all VMs die',
      'one VM dies',
      'a proxy dies',
    );
  }

  async #enact(incident: Incident): Promise<string> {
    const bed = this.#bed;
    switch (incident) {
      case 'checkpoint':
        return `epoch ${await this.#checkpoint()}`;
      case 'rollback':
        return this.#restore('rolled back to');
      case 'all VMs die':
        bed.killAll();
        return this.#restore('all died, back to');
      case 'one VM dies':
        process.kill(bed.pid(this.#random.integer(0, bed.nodes - 1)), 'SIGKILL');
        return this.#restore('one died, back to');
      case 'a proxy dies':
        return this.#proxyDies();
    }
  }

  async #checkpoint(): Promise<number> {
    const { epoch, barrierHeld } = await this.#bed.json<RoundReport>('checkpoint');
    if (epoch === undefined || barrierHeld !== true) throw new Error('no barrier, no epoch');
    this.tally.epochs += 1;
    this.#epochs.push(epoch);
    return epoch;
  }

  /** Restores one of the present job's epochs that are still kept. */
  async #restore(what: string): Promise<string> {
    const { epochs } = await this.#bed.json<{ epochs: { epoch: number }[] }>('epochs');
    const kept = epochs.map(({ epoch }) => epoch).filter((epoch) => this.#epochs.includes(epoch));
    const [first, ...others] = kept;
    if (first === undefined) throw new Error('no epoch of this job is kept');
    const chosen = this.#random.choice(first, ...others);
    this.#bed.hangUp();
    const { epoch } = await this.#bed.json<RestoreReport>('restore', String(chosen), '--replace');
    if (epoch !== chosen) throw new Error(`asked for epoch ${chosen}, given ${epoch}`);
    this.tally.restores += 1;
    return `${what} epoch ${epoch}`;
  }

  /** Kills a proxy at some moment of a round: it commits or is aborted, and the VMs run on. */
  async #proxyDies(): Promise<string> {
    const bed = this.#bed;
    const proxies = [...bed.processes()].filter(([, words]) => words.includes('/member/process.'));
    const [first, ...others] = proxies.map(([pid]) => pid);
    if (first === undefined) throw new Error('there is no proxy');
    const victim = this.#random.choice(first, ...others);
    const afterMs = this.#random.integer(0, MOMENT_MAX_MS);
    const folder = watch(bed.memberDirectory(0));
    let timer: NodeJS.Timeout | undefined;
    let died = false;
    const kill = () => {
      died = true;
      process.kill(victim, 'SIGKILL');
    };
    folder.on('change', (_, name) => {
      if (name === JOURNAL) timer ??= setTimeout(kill, afterMs);
    });
    const { code, stdout } = await bed.umbra('checkpoint', '--json');
    folder.close();
    clearTimeout(timer);
    if (!died) kill(); // the round is over already: the proxy dies between rounds
    const said = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Partial<RoundReport>;
    if (code === 0 && said.epoch !== undefined) {
      this.tally.epochs += 1;
      this.#epochs.push(said.epoch);
      return `a proxy died too late, epoch ${said.epoch}`;
    }
    const refusal = stdout.match(/E_[A-Z_]+/)?.[0];
    if (refusal === undefined) throw new Error(`a proxy died, and no code said so: ${stdout}`);
    this.tally.aborted += 1;
    return `a proxy died, ${refusal}`;
  }

  async #nonces(): Promise<string> {
    return (await tickers(this.#bed)).map(({ nonce }) => nonce).join();
  }
}
