/**
 * The units as shipped: systemd accepts them, and their commands do what they promise, with every
 * path below a folder of the test's and `umbra` on the PATH.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { MigrationReport } from '../../proxy/relay/report.ts';
import { scratchFolder } from '../support/scratch.ts';

const UNITS = fileURLToPath(new URL('../../tools/systemd', import.meta.url));
const COMMAND = fileURLToPath(new URL('../../dist/tools/cli/main.js', import.meta.url));
const INSTANCE = 'demo';
const LIMIT_MS = 30_000;

const test = suite('systemd units');
let directory = '';
let env: NodeJS.ProcessEnv;
let relay: ChildProcess | undefined;

test.before.each(() => {
  directory = mkdtempSync(join(scratchFolder(), 'umbra-unit-'));
  for (const folder of ['bin', 'home', 'etc/umbra', 'var/lib', 'run']) {
    mkdirSync(join(directory, folder), { recursive: true });
  }
  symlinkSync(COMMAND, join(directory, 'bin/umbra')); // as npm does
  const PATH = `${join(directory, 'bin')}:${process.env.PATH}`;
  env = { ...process.env, PATH, UMBRA_HOME: join(directory, 'home') };
});

test.after.each(() => {
  relay?.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

const units = readdirSync(UNITS).filter((name) => name.endsWith('.service'));

/** Values of a unit's key, in order; comments and sections apart (systemd.syntax(7)). */
function valuesOf(unit: string, key: string): string[] {
  const lines = readFileSync(join(UNITS, unit), 'utf8').split('\n');
  return lines
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));
}

/**
 * Splits a command line as systemd does: at blanks; %i is the instance, and $NAME as a word of its
 * own becomes the words of its value. Paths of the system are moved below the test's folder.
 */
function wordsOf(line: string, variables: Readonly<Record<string, string>> = {}): string[] {
  return line
    .split(/\s+/)
    .flatMap((word) =>
      word.startsWith('$') ? (variables[word.slice(1)] ?? '').split(/\s+/) : word,
    )
    .map((word) => word.replaceAll('%i', INSTANCE))
    .map((word) => word.replace(/^(?=\/(etc|var|run)\/)/, directory));
}

function run(line: string): string {
  const [program = '', ...args] = wordsOf(line);
  return execFileSync(program, args, { env, encoding: 'utf8', timeout: LIMIT_MS });
}

for (const unit of units) {
  test(`systemd-analyze verifies ${unit}`, () => {
    const file = join(directory, unit.replace('@', `@${INSTANCE}`));
    copyFileSync(join(UNITS, unit), file);
    const options = { env, encoding: 'utf8', stdio: 'pipe', timeout: LIMIT_MS } as const;
    assert.is(execFileSync('systemd-analyze', ['verify', '--man=no', file], options), '');
  });
}

test('a cluster: up without booting, down with its VMs left alone', () => {
  const [start = ''] = valuesOf('umbra@.service', 'ExecStart');
  const [stop = ''] = valuesOf('umbra@.service', 'ExecStop');
  const member = 'name: n0, command: [qemu-system-x86_64, -qmp, "unix:{dir}/q.sock,server=on"]';
  const text = `cluster: ${INSTANCE}\nmembers: [{ ${member} }]\n`;
  writeFileSync(join(directory, `etc/umbra/${INSTANCE}.yaml`), text);
  run(start);
  const status = () => run(`/usr/bin/env umbra status --json --cluster ${INSTANCE}`);
  try {
    const { members } = JSON.parse(status().trim()) as { members: { running: boolean }[] };
    assert.equal(
      members.map(({ running }) => running),
      [false],
    );
    writeFileSync(join(directory, `etc/umbra/${INSTANCE}.yaml`), `${text}epochs: {keep: 3}\n`);
    const [reload = ''] = valuesOf('umbra@.service', 'ExecReload');
    assert.is(run(reload), 'epochs.keep: 2 → 3\n');
  } finally {
    run(stop);
  }
  assert.throws(status, 'its daemon has ended');
});

test('a relay: listens by its file, reports to its unit’s place, ends on SIGTERM', async () => {
  const [start = ''] = valuesOf('umbra-relay.service', 'ExecStart');
  const [umask = ''] = valuesOf('umbra-relay.service', 'UMask');
  const [state = ''] = valuesOf('umbra-relay.service', 'StateDirectory');
  const [runtime = ''] = valuesOf('umbra-relay.service', 'RuntimeDirectory');
  const places = [join(directory, 'var/lib', state), join(directory, 'run', runtime)];
  for (const location of places) mkdirSync(location);
  const socket = join(directory, 'run', runtime, 'm.sock');
  const routes = `routes: [{listen: 'unix://${socket}', to: 'unix://${directory}/none'}]`;
  writeFileSync(join(directory, 'etc/umbra/relay.yaml'), `${routes}\nstallLimit: 1min\n`);
  const words = wordsOf(start, { RELAY_OPTIONS: '--stall-limit 30s' });
  relay = spawn('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...words], { env, stdio: 'pipe' });
  const ended = once(relay, 'exit');
  await appears(join(socket, '..'), /^m\.sock$/);
  execFileSync('socat', ['-u', 'OPEN:/dev/null', `UNIX-CONNECT:${socket}`], { timeout: LIMIT_MS });
  const reports = await appears(places[0] ?? '', /\.json$/);
  const report = JSON.parse(readFileSync(reports, 'utf8')) as MigrationReport;
  assert.equal([report.outcome, report.failure?.code], ['failed', 'E_RELAY_TARGET']);
  writeFileSync(join(directory, 'etc/umbra/relay.yaml'), `${routes}\nmigrations: {atOnce: 1}\n`);
  const [reload = ''] = valuesOf('umbra-relay.service', 'ExecReload');
  assert.is(run(reload), 'migrations.atOnce: none: all flow at once → 1\n');
  relay.kill('SIGTERM');
  assert.equal(await ended, [1, null], 'by itself, and not all went well');
  assert.not(existsSync(socket));
});

/** Waits for a file in a folder. @returns its path */
async function appears(folder: string, name: RegExp): Promise<string> {
  const watcher = watch(folder);
  const timer = setTimeout(() => watcher.emit('error', new Error(`no ${name}`)), LIMIT_MS);
  try {
    for (;;) {
      const changed = once(watcher, 'change');
      const found = readdirSync(folder).find((one) => name.test(one));
      if (found !== undefined) return join(folder, found);
      await changed;
    }
  } finally {
    clearTimeout(timer);
    watcher.close();
  }
}

test.run();
