/** Test of the package as published: it is packed, installed without dev dependencies, and run. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { suite } from '../support/suite.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));

const test = suite('package');
let folder = '';

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umbra-package-'));
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
  const [tarball = ''] = readdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{"private": true}');
  const options = ['--omit=dev', '--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', ['install', ...options, `./${tarball}`], { cwd: folder });
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

const umbra = (...args: readonly string[]) =>
  run(join(folder, 'node_modules', '.bin', 'umbra'), args, {
    env: { ...process.env, UMBRA_HOME: join(folder, 'home') },
  });

test('the umbra command runs without dev dependencies', async () => {
  const { stdout } = await umbra('--version');
  assert.match(stdout, /^\d+\.\d+\.\d+/);
  assert.not(readdirSync(join(folder, 'node_modules')).includes('typescript'));
});

test('doctor examines this host', async () => {
  const { stdout } = await umbra('doctor', '--json');
  const { fine, findings } = JSON.parse(stdout) as {
    fine: boolean;
    findings: readonly { check: string; verdict: string }[];
  };
  assert.is(fine, true);
  const checks = findings.map(({ check }) => check);
  for (const check of ['QEMU', 'KVM', 'userfaultfd', 'store', 'memory', 'mapping']) {
    assert.ok(checks.includes(check), check);
  }
});

test('doctor says what is missing, and how to get it', async () => {
  const bin = join(folder, 'node_modules', '.bin', 'umbra');
  const bare = { env: { PATH: '/nowhere', UMBRA_HOME: join(folder, 'home') } };
  const outcome = await run(process.execPath, [bin, 'doctor'], bare).catch((error) => error);
  assert.is(outcome.code, 1);
  assert.match(outcome.stdout, /MISSING\s+QEMU/);
  assert.match(outcome.stdout, 'apt-get install qemu-system-x86');
});

test('the package contains only what is needed', async () => {
  const files = readdirSync(join(folder, 'node_modules', 'umbra'), { recursive: true }) as string[];
  assert.not(files.some((file) => file.startsWith('test') || file.endsWith('.test.js')));
  assert.ok(files.includes('tools/guest/root/init'), 'the guest can be built from it');
  assert.ok(files.includes('dist/LICENSES.txt'), 'of the packages that are in what is built');
});

test.run();
