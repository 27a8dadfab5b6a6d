// The first command in a new clone; it needs nothing but Node. It installs the npm dependencies if they
// are missing or older than the lock file, then runs main.ts with the same arguments.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** A file that npm writes last: it exists only after a complete install. */
const installed = join(root, 'node_modules', '.package-lock.json');
const wanted = join(root, 'package-lock.json');

function run(program, args) {
  const { status, error, signal } = spawnSync(program, args, { cwd: root, stdio: 'inherit' });
  if (error) process.stderr.write(`setup: ${program}: ${error.message}\n`);
  if (status !== 0) process.exit(status ?? (signal === 'SIGINT' ? 130 : 1));
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 15)) {
  process.stderr.write(`setup: Node 20.15 or newer is needed, this is ${process.versions.node}\n`);
  process.exit(1);
}
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(wanted).mtimeMs) {
  process.stderr.write('setup: npm ci\n');
  run('npm', ['ci', '--no-fund', '--no-audit']);
}
const main = join(root, 'tools', 'setup', 'main.ts');
run(process.execPath, ['--import', 'tsx', main, ...process.argv.slice(2)]);
