/**
 * Runs demo and tests on a fresh Debian 13, in a folder of this machine:
 *
 *     npm run test:debian13 [-- STEP…] [--qemu ORIGIN] [--libvirt ORIGIN] [--keep]
 *
 * A step is `demo`, or the words of one `npm test`: `unit`, `e2e/rescue`, 'e2e persist'. The last
 * line is `steps: N passed, N failed`. Needs root, and a Debian 12 or 13 around it.
 */
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { cacheFolder } from '../../tools/packages/cache.ts';
import { runCommand } from '../../tools/packages/command.ts';
import { networkVariables } from './host-settings.ts';
import type { Sandbox } from './sandbox.ts';
import { CLONE, cloneInto, makeSystem, type Origin, removeSystem } from './system.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const STEPS = [
  'demo',
  'unit',
  'e2e/rescue',
  'e2e/background.',
  'e2e/libvirt-map',
  'e2e/libvirt-domains',
  'e2e/libvirt-relay',
];
const ORIGINS: readonly Origin[] = ['system', 'backports'];
/** The QEMU of each origin in the system; the set-up downloads that of backports. */
const QEMUS: Readonly<Record<Origin, string>> = {
  system: '/usr/bin/qemu-system-x86_64',
  backports: '/root/.cache/umbra/qemu/trixie-backports/usr/bin/qemu-system-x86_64',
};
const SEEN = ['nodejs', 'qemu-system-x86', 'libvirt-daemon'];

interface Options {
  readonly qemu?: Origin;
  readonly libvirt: Origin;
  readonly keep: boolean;
}

interface StepEnd {
  readonly step: string;
  readonly passed: boolean;
  readonly seconds: number;
  /** The counts of the tests, or what it ended with. */
  readonly result: string;
}

const command = new Command('npm run test:debian13 --')
  .argument('[steps...]', 'what is run', STEPS)
  .addOption(
    new Option('--qemu <origin>', "QEMU of all steps; default: the set-up's two").choices(ORIGINS),
  )
  .addOption(
    new Option('--libvirt <origin>', 'libvirt of all steps').choices(ORIGINS).default('system'),
  )
  .option('--keep', 'goes on with the system of the last such run, and leaves it', false)
  .parse();
const [steps, options] = [command.args.length > 0 ? command.args : STEPS, command.opts<Options>()];

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => abort.abort());
}
const logs = join(cacheFolder(), 'debian13', 'logs');
let log: WriteStream | undefined;
/** Output of the step that runs. */
let output = '';
let isLineBegun = false;

process.exitCode = await main().catch((error: unknown) => {
  say(error instanceof Error ? error.message : String(error));
  return 1;
});
if (abort.signal.aborted) process.exitCode = 130;

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) throw new Error('it needs root, to mount and to chroot');
  await tellUncommitted();
  mkdirSync(logs, { recursive: true });
  const env = await environment();
  const { libvirt, keep } = options;
  log = logOf('system');
  const common = { env, onOutput, signal: abort.signal };
  const system = await makeSystem({ ...common, libvirt, keep, progress: say });
  try {
    await cloneInto(system, REPOSITORY);
    const ends: StepEnd[] = [];
    for (const step of steps) {
      if (!abort.signal.aborted) ends.push(await runStep(system, step, ends.length + 1));
    }
    return await tellSummary(system, ends);
  } finally {
    if (keep) say(`the system is in ${system.root}`);
    else await removeSystem(system);
  }
}

async function environment(): Promise<Record<string, string>> {
  const env = await networkVariables();
  if (options.qemu !== undefined) env.UMBRA_QEMU = QEMUS[options.qemu];
  if (process.env.UMBRA_ACCEL !== undefined) env.UMBRA_ACCEL = process.env.UMBRA_ACCEL;
  return env;
}

async function runStep(system: Sandbox, step: string, number: number): Promise<StepEnd> {
  const words = step === 'demo' ? ['run', 'demo'] : ['test', '--', ...step.split(' ')];
  say(`${number} of ${steps.length}: npm ${words.join(' ')}`);
  log = logOf(`${number}-${step.replaceAll(/[^a-z0-9.-]/gi, '-')}`);
  output = '';
  const { code, tookMs } = await system.run(CLONE, 'npm', ...words);
  const counts = output.match(/^\d+ passed, \d+ failed$/gm)?.at(-1);
  const result = counts ?? (code === 0 ? 'passed' : `exit code ${code}`);
  const end = { step, passed: code === 0, seconds: tookMs / 1000, result };
  say(lineOf(end));
  return end;
}

async function tellSummary(system: Sandbox, ends: readonly StepEnd[]): Promise<number> {
  output = '';
  log = undefined;
  // A package that is only known has no version.
  await system.run('/', 'sh', '-c', `dpkg-query -W ${SEEN.join(' ')} | grep '[0-9]$'`);
  const failed = ends.filter(({ passed }) => !passed).length;
  process.stdout.write(`\n${ends.map(lineOf).join('\n')}\nlogs: ${logs}\n`);
  process.stdout.write(`steps: ${ends.length - failed} passed, ${failed} failed\n`);
  return failed === 0 && ends.length === steps.length ? 0 : 1;
}

function lineOf({ step, passed, seconds, result }: StepEnd): string {
  return `${passed ? 'ok  ' : 'FAIL'} ${step}: ${result} in ${seconds.toFixed(0)} s`;
}

/** Says that what is not committed is not tested: the system gets a clone. */
async function tellUncommitted(): Promise<void> {
  const changes = await runCommand('git', ['-C', REPOSITORY, 'status', '--porcelain']);
  if (changes !== '') say('what is not committed is not tested');
}

function logOf(name: string): WriteStream {
  log?.end();
  return createWriteStream(join(logs, `${name}.log`));
}

/** Prints what a step writes, set off from our own lines, and keeps it. */
function onOutput(text: string): void {
  output += text;
  log?.write(text);
  const begun = isLineBegun ? text : `    ${text}`;
  process.stdout.write(begun.replaceAll(/\n(?=.|\n)/g, '\n    '));
  isLineBegun = !text.endsWith('\n');
}

function say(line: string): void {
  process.stdout.write(`debian13: ${line}\n`);
}
