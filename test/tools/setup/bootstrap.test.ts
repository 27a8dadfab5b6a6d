import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { withFolder } from '../../support/switch-peer.ts';

/** Stands in for npm: notes its first argument and leaves the mark of a finished install. */
const npm = `#!/bin/sh
echo "$1" >>npm.log
mkdir -p node_modules
echo '{}' >node_modules/.package-lock.json
touch -d '+1 second' node_modules/.package-lock.json
`;

interface Clone {
  readonly folder: string;
  /** Runs the bootstrap from elsewhere; returns its exit code. */
  readonly bootstrap: () => Promise<number | null>;
  readonly read: (name: string) => string;
}

/** Lends a fresh clone. The shell script `setUp` runs in place of Node with the set-up proper. */
async function withClone(setUp: string, use: (clone: Clone) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const setup = join(folder, 'tools', 'setup');
    const bin = join(folder, 'bin');
    mkdirSync(setup, { recursive: true });
    mkdirSync(bin);
    writeFileSync(join(setup, 'bootstrap.mjs'), readFileSync('tools/setup/bootstrap.mjs'));
    writeFileSync(join(folder, 'package-lock.json'), '{}');
    writeFileSync(join(bin, 'npm'), npm, { mode: 0o755 });
    const node = join(bin, 'node');
    writeFileSync(node, `#!/bin/sh\n${setUp}\n`, { mode: 0o755 });
    const bootstrap = async () => {
      const script = join(setup, 'bootstrap.mjs');
      const code = `process.execPath = ${JSON.stringify(node)}; process.argv.splice(1, 0, '');
        await import(${JSON.stringify(script)});`;
      const child = spawn(
        process.execPath,
        ['--input-type=module', '--eval', code, '--', '--some-option'],
        { cwd: '/', env: { ...process.env, PATH: `${bin}:${process.env.PATH}` }, stdio: 'ignore' },
      );
      const [exitCode] = (await once(child, 'exit')) as [number | null];
      return exitCode;
    };
    await use({ folder, bootstrap, read: (name) => readFileSync(join(folder, name), 'utf8') });
  });
}

test('installs what is missing, then hands over with its arguments', async () => {
  await withClone('echo "$@" >main.log', async ({ bootstrap, folder, read }) => {
    assert.is(await bootstrap(), 0);
    assert.is(read('npm.log'), 'ci\n');
    const main = join(folder, 'tools', 'setup', 'main.ts');
    assert.is(read('main.log'), `--import tsx ${main} --some-option\n`);
  });
});

test('installs again only when the lock file has changed', async () => {
  await withClone('true', async ({ bootstrap, folder, read }) => {
    await bootstrap();
    await bootstrap();
    assert.is(read('npm.log'), 'ci\n');
    const later = Date.now() / 1000 + 60;
    utimesSync(join(folder, 'package-lock.json'), later, later);
    await bootstrap();
    assert.is(read('npm.log'), 'ci\nci\n');
  });
});

test('fails as the set-up fails', async () => {
  await withClone('exit 5', async ({ bootstrap }) => {
    assert.is(await bootstrap(), 5);
  });
});

test.run();
