/**
 * Shows that an MPI job on a virtual cluster survives the loss of every VM.
 *
 *     npm run demo [-- --members 4] [--qemu PATH]
 *
 * Exit status 0 only if the job's own verification passed after the kill.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { bytes, duration } from '../cli/output.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';

const MEMORY_MIB = 256;
const POLL_MS = 500;
const JOB_LIMIT_MS = 20 * 60_000;
/** The number of systems after which the job checks whether it has to end. */
const CASES_OF_ROUND = 10;
const ORDER = 400;
const CASES_BEFORE = 8;

interface Phase {
  readonly name: string;
  readonly ms: number;
}

class Demo {
  readonly #phases: Phase[] = [];
  #step = 0;

  readonly members: number;

  constructor(members: number) {
    this.members = members;
  }

  async run(): Promise<boolean> {
    const qemu = await newestQemu();
    const bed = await this.#timed('prepare', () =>
      Testbed.create({ nodes: this.members, memoryMiB: MEMORY_MIB, qemu }),
    );
    try {
      return await this.#rescue(bed);
    } finally {
      await bed.dispose();
    }
  }

  async #rescue(bed: Testbed): Promise<boolean> {
    const { members } = this;
    this.#say(`Boot ${members} VMs of ${MEMORY_MIB} MiB under QEMU ${bed.qemu.version}`);
    await this.#timed('boot', () => bed.up());

    this.#say(`Start an unmodified MPI job over them: ScaLAPACK LU, systems of ${ORDER}`);
    await bed.shell(0, `/job/xdlu ${CASES_OF_ROUND} ${ORDER} again`);
    const nonce = await tickerOf(bed);
    await this.#timed('job before', () => this.#watchJob(bed, CASES_BEFORE));

    this.#say('Checkpoint the running cluster: $ umbra checkpoint');
    await this.#timed('checkpoint', () => bed.show('checkpoint'));
    await this.#watchJob(bed, (await cases(bed)) + 1);

    this.#say('Kill every VM with SIGKILL');
    const done = await cases(bed);
    bed.killAll();
    process.stdout.write(`   ${done} systems were solved; all of it is lost\n`);

    this.#say('Bring the cluster back: $ umbra restore');
    await this.#timed('restore', () => bed.show('restore'));
    const { lastRound, lastRestore } = await bed.json<ClusterStatus>('status');
    if (lastRound === undefined || lastRestore === undefined) throw new Error('nothing was done');

    const continued = (await tickerOf(bed)) === nonce;
    this.#say('Let the job end, and verify what it has computed');
    await bed.shell(0, '/job/end');
    const passed = await this.#timed('job after', () => this.#finishJob(bed));
    this.#summary(lastRound, lastRestore, continued, passed);
    return continued && passed;
  }

  async #watchJob(bed: Testbed, until: number): Promise<void> {
    for (const end = performance.now() + JOB_LIMIT_MS; ; ) {
      const count = await cases(bed);
      progress(`   ${count} systems solved`);
      if (count >= until) break;
      if (performance.now() > end) throw new Error('the job makes no progress');
      await delay(POLL_MS);
    }
    process.stdout.write('\n');
  }

  async #finishJob(bed: Testbed): Promise<boolean> {
    for (const end = performance.now() + JOB_LIMIT_MS; ; ) {
      const { exitCode, output } = await (await bed.guest(0)).run('/job/verify');
      if (exitCode !== 2 || performance.now() > end) {
        process.stdout.write(`\n   the job's own verification: ${output.trim()}\n`);
        return exitCode === 0;
      }
      progress(`   ${await cases(bed)} systems solved`);
      await delay(POLL_MS);
    }
  }

  #summary(round: RoundReport, restore: RestoreReport, continued: boolean, passed: boolean): void {
    const total = this.#phases.reduce((sum, { ms }) => sum + ms, 0);
    const phases = this.#phases.map(({ name, ms }) => `${name} ${duration(ms)}`).join(', ');
    const verdict = passed ? 'ended, and its own verification passed' : 'FAILED its verification';
    const lines = [
      `  ${this.members} VMs were checkpointed together while an MPI job ran on them;`,
      `  they were stopped for ${duration(round.clusterDowntimeMs)}; ` +
        `${bytes(round.storedBytes)} of their state are kept in RAM.`,
      '  Then every one of them was killed.',
      `  ${duration(restore.durationMs)} later all ran again from RAM, as they were at the ` +
        `checkpoint${continued ? '' : ' - BUT THEY WERE NOT CONTINUED'},`,
      `  and the job ${verdict}.`,
      '',
      `  ${duration(total)} in all: ${phases}`,
    ];
    process.stdout.write(`\n${lines.join('\n')}\n`);
  }

  #say(text: string): void {
    this.#step += 1;
    process.stdout.write(`\n${this.#step}. ${text}\n`);
  }

  async #timed<T>(name: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.#phases.push({ name, ms: performance.now() - start });
    }
  }
}

async function cases(bed: Testbed): Promise<number> {
  return Number(await bed.shell(0, "grep -c '^WALL .* PASSED' /job/out || true"));
}

/** Returns the guests' nonces, which exist in their RAM alone: equal ones mean the same guests. */
async function tickerOf(bed: Testbed): Promise<string> {
  const lines = await Promise.all(
    Array.from({ length: bed.nodes }, (_, node) => bed.shell(node, 'ticker show')),
  );
  return lines.map((line) => /nonce=(\S+)/.exec(line)?.[1] ?? '').join(' ');
}

let lastProgress = '';

/** Prints progress: one line, rewritten, on a terminal; elsewhere a line for each change. */
function progress(text: string): void {
  if (text === lastProgress) return;
  lastProgress = text;
  process.stdout.write(process.stdout.isTTY ? `\r${text}  ` : `${text}\n`);
}

function membersOf(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 2 && count <= 8) return count;
  throw new InvalidArgumentError('It takes a whole number from 2 to 8.');
}

const { members, qemu } = new Command('npm run demo --')
  .option('--members <n>', 'VMs of the cluster', membersOf, availableParallelism() >= 4 ? 4 : 2)
  .option('--qemu <path>', 'QEMU that runs them; default: UMBRA_QEMU, else the newest one found')
  .parse()
  .opts<{ members: number; qemu?: string }>();
if (qemu !== undefined) process.env.UMBRA_QEMU = qemu;
const succeeded = await new Demo(members).run();
process.exitCode = succeeded ? 0 : 1;
