/**
 * Jobs, checkpoints, kills and restores at random, for a given time:
 *
 *     npm run soak -- --minutes 30 [--seed N] [--qemu VERSION] [--plot soak.svg]
 *     npm run --silent soak -- --minutes 30 --json        ends with one line of figures
 *
 * Exits with 0 only if every started job verified itself, and nothing grew.
 */
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Random } from '../../tools/sim/random.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { grown, growthOf, NOISE } from './growth.ts';
import { plot } from './plot.ts';
import { Soak } from './soak.ts';

const options = new Command('soak')
  .option('--minutes <n>', 'how long', Number, 30)
  .option('--seed <n>', 'what happens when', Number, 1)
  .option('--qemu <version>', 'which QEMU, by the beginning of its version; the newest')
  .option('--plot <file>', 'memory, descriptors and tmpfs over time, as SVG')
  .option('--json', 'end with one line of JSON')
  .parse()
  .opts<{ minutes: number; seed: number; qemu?: string; plot?: string; json?: boolean }>();
if (!(options.minutes > 0) || !Number.isInteger(options.seed)) {
  process.stderr.write('--minutes takes a number above 0, --seed a whole number\n');
  process.exit(2);
}

const wanted = options.qemu ?? '';
const qemu = (await findQemus()).filter(({ version }) => version.startsWith(wanted)).at(-1);
if (qemu === undefined) throw new Error(`there is no QEMU ${wanted} here`);
const settings = { round: { capture: 'auto' }, epochs: { keep: 3 } };
const bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu, settings });
let failure: unknown;
const soak = new Soak(bed, new Random(options.seed), say);
try {
  await bed.up();
  say(`seed ${options.seed}, ${options.minutes} minutes on QEMU ${qemu.version}`);
  const end = performance.now() + options.minutes * 60_000;
  while (performance.now() < end) await soak.job();
} catch (error) {
  failure = error;
} finally {
  await bed.dispose();
}

const { started, verified, epochs, restores, aborted, incidents } = soak.tally;
const growth = growthOf(soak.samples);
if (options.plot !== undefined) {
  const title = `${started} jobs, ${epochs} epochs, ${restores} restores on QEMU ${qemu.version}`;
  writeFileSync(options.plot, plot(title, soak.samples));
}
if (failure !== undefined) say(`FAILED, replay with --seed ${options.seed}: ${failure}`);
say(
  `${verified} of ${started} jobs verified; ` +
    `${epochs} epochs, ${restores} restores, ${aborted} aborted`,
);
say(
  Object.entries(incidents)
    .map(([what, count]) => `${what}: ${count}`)
    .join(', '),
);
if (growth === undefined) say('too short to say whether anything grows');
else {
  for (const measure of grown(growth)) {
    say(`GREW ${measure}: by ${growth[measure]}, more than ${NOISE[measure]}`);
  }
}
if (options.json === true) {
  const figures = { jobs_started: started, jobs_verified: verified, epochs, restores };
  say(JSON.stringify({ ...figures, growth: growth ?? {} }));
}
// A soak too short to measure growth has shown nothing.
const isFlat = growth !== undefined && grown(growth).length === 0;
process.exitCode = failure === undefined && verified === started && started > 0 && isFlat ? 0 : 1;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
