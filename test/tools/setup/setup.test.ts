import { chmodSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parsePrintedUri } from '../../../tools/packages/apt.ts';
import { cachedFolder, cacheFolder } from '../../../tools/packages/cache.ts';
import { runCommand } from '../../../tools/packages/command.ts';
import { SetupError } from '../../../tools/packages/errors.ts';
import { systemRelease } from '../../../tools/packages/release.ts';
import { dataArgs, describe, findQemus, parseVersion } from '../../../tools/qemu/qemu.ts';
import { accelerator, kvmBoots } from '../../../tools/setup/accel.ts';
import {
  installCommand,
  missingRequirements,
  type Requirement,
} from '../../../tools/setup/requirements.ts';
import { withFolder } from '../../support/switch-peer.ts';

function setupError(code: string): (error: Error) => boolean {
  return (error) => error instanceof SetupError && error.code === code;
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Writes a program that answers like a QEMU, or misbehaves. */
function fakeProgram(folder: string, script: string): string {
  const path = join(folder, 'program');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

test('the cache folder follows the environment', () => {
  const both = { UMBRA_CACHE: '/a', XDG_CACHE_HOME: '/b' };
  assert.is(cacheFolder(both), '/a');
  assert.is(cacheFolder({ XDG_CACHE_HOME: '/b' }), '/b/umbra');
  assert.match(cacheFolder({}), /\/\.cache\/umbra$/);
});

test('a cached folder is filled once', async () => {
  await withFolder(async (folder) => {
    const target = join(folder, 'built');
    let fills = 0;
    const fill = async (scratch: string) => {
      fills++;
      writeFileSync(join(scratch, 'file'), 'x');
    };
    await cachedFolder(target, fill);
    await cachedFolder(target, fill);
    assert.is(fills, 1);
    assert.equal(readdirSync(target), ['file']);
  });
});

test('a fill that fails leaves nothing, and the next one succeeds', async () => {
  await withFolder(async (folder) => {
    const target = join(folder, 'built');
    const failed = await failure(
      cachedFolder(target, async (scratch) => {
        writeFileSync(join(scratch, 'half'), '');
        throw new Error('broken');
      }),
    );
    assert.is((failed as Error).message, 'broken');
    assert.equal(readdirSync(folder), []);
    await cachedFolder(target, async (scratch) => writeFileSync(join(scratch, 'file'), ''));
    assert.equal(readdirSync(target), ['file']);
  });
});

test('a fill that fails on a folder that is not empty has failed', async () => {
  await withFolder(async (folder) => {
    const failed = await failure(
      cachedFolder(join(folder, 'built'), async (scratch) => {
        writeFileSync(join(scratch, 'file'), '');
        rmdirSync(scratch);
      }),
    );
    assert.is((failed as NodeJS.ErrnoException).code, 'ENOTEMPTY');
    assert.equal(readdirSync(folder), []);
  });
});

test('two fills at once: one wins, both succeed, no scratch stays', async () => {
  await withFolder(async (folder) => {
    const target = join(folder, 'built');
    const fill = (name: string) =>
      cachedFolder(target, async (scratch) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        writeFileSync(join(scratch, name), '');
      });
    await Promise.all([fill('a'), fill('b')]);
    assert.equal(readdirSync(folder), ['built']);
    assert.is(readdirSync(target).length, 1);
  });
});

test('the error of a failed command holds its output', async () => {
  const error = await failure(runCommand('sh', ['-c', 'echo because >&2; exit 3']));
  assert.ok(setupError('SETUP_COMMAND_FAILED')(error as Error));
  assert.match((error as Error).message, /exit code 3\nbecause$/);
  const absent = await failure(runCommand('/nonexistent/program', []));
  assert.ok(setupError('SETUP_COMMAND_FAILED')(absent as Error));
  const slow = await failure(runCommand('sleep', ['10'], { timeoutMs: 50 }));
  assert.match((slow as Error).message, 'killed by SIGKILL');
});

test("apt's answer is understood, epoch and all", () => {
  const digest = 'a'.repeat(64);
  const uri = 'mirror/pool/main/b/busybox/busybox-static_1.35_amd64.deb';
  const fileName = 'busybox-static_1:1.35.0-4+deb12u1+b1_amd64.deb';
  assert.equal(parsePrintedUri(`'${uri}' ${fileName} 928188 SHA256:${digest}`), {
    name: 'busybox-static',
    fileName,
    bytes: 928188,
    sha256: digest,
  });
  const unknown = setupError('SETUP_PACKAGE_UNKNOWN');
  const nothing = [
    '',
    'W: something',
    `'u' ../../x_1.deb 1 SHA256:${digest}`,
    `'u' x_1.deb 1 MD5:a`,
  ];
  for (const line of nothing) assert.throws(() => parsePrintedUri(line), unknown, line);
});

const wanted: Requirement[] = [
  { debianPackage: 'gcc', probe: 'gcc', purpose: '' },
  { debianPackage: 'libc6-dev', probe: '/usr/lib/libc.a', purpose: '' },
  { debianPackage: 'gcc', probe: 'cpp', purpose: '' },
];

test('requirements are looked for on the PATH and at their place', () => {
  const present = new Set(['/b/gcc', '/usr/lib/libc.a', '/b/cpp']);
  const missing = () => missingRequirements(wanted, '/a:/b', (file) => present.has(file));
  assert.equal(missing(), []);
  present.delete('/usr/lib/libc.a');
  present.delete('/b/gcc');
  assert.equal(missing(), wanted.slice(0, 2));
});

test('the command to run names each package once', () => {
  assert.is(
    installCommand(wanted),
    'sudo apt-get install --no-install-recommends -y gcc libc6-dev',
  );
});

test("QEMU's version, by running it; a program that does not run is none", async () => {
  assert.is(parseVersion('QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n'), '7.2.22');
  assert.is(parseVersion('bash: not found'), undefined);
  await withFolder(async (folder) => {
    const good = fakeProgram(folder, 'echo QEMU emulator version 9.1.0');
    assert.equal(await describe(good, ['-L', '/x']), {
      version: '9.1.0',
      binary: good,
      args: ['-L', '/x'],
    });
    assert.is(await describe(fakeProgram(folder, 'exit 127'), []), undefined);
    assert.is(await describe(join(folder, 'absent'), []), undefined);
  });
});

test('UMBRA_QEMU is used in place of all others, and is checked', async () => {
  await withFolder(async (folder) => {
    const binary = fakeProgram(folder, 'echo QEMU emulator version 9.1.0');
    const found = await findQemus({ UMBRA_QEMU: binary, PATH: '/usr/bin' });
    assert.equal(found, [{ version: '9.1.0', binary, args: [] }]);
    const error = await failure(findQemus({ UMBRA_QEMU: join(folder, 'absent') }));
    assert.ok(setupError('SETUP_BAD_QEMU')(error as Error));
    assert.match((error as Error).message, /absent is no QEMU that runs here/);
  });
});

test('a QEMU in a folder of its own gets its own firmware', async () => {
  assert.equal(dataArgs('/usr/bin/qemu-system-x86_64'), []);
  await withFolder(async (folder) => {
    mkdirSync(join(folder, 'share/qemu'), { recursive: true });
    const binary = join(folder, 'bin/qemu-system-x86_64');
    assert.equal(dataArgs(binary), ['-L', join(folder, 'share/qemu')]);
  });
});

test('the release is told by its code name; another system is refused by its name', async () => {
  const twelve = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n';
  assert.is((await systemRelease(twelve)).backports, 'bookworm-backports');
  assert.is((await systemRelease('VERSION_CODENAME="trixie"\nID=debian\n')).version, 13);
  const unknown = setupError('SETUP_RELEASE_UNKNOWN');
  const other = await failure(systemRelease('PRETTY_NAME="Plan 9"\nVERSION_CODENAME=nine\n'));
  assert.ok(unknown(other as Error));
  assert.match((other as Error).message, 'Debian 12 or 13 is needed, this is Plan 9');
  assert.ok(unknown((await failure(systemRelease(''))) as Error));
});

test('KVM works if its probe prints; not if the probe hangs or fails', async () => {
  await withFolder(async (folder) => {
    const tries = async (script: string, timeoutMs: number) => {
      const qemu = { version: '1.0.0', binary: fakeProgram(folder, script), args: [] };
      return await kvmBoots(qemu, '/kernel', timeoutMs);
    };
    const line = 'echo "[    0.000000] Linux version 6.1"';
    assert.is(await tries(`${line}; exec sleep 60`, 10_000), true);
    assert.is(await tries('exec sleep 60', 100), false);
    assert.is(await tries('echo "failed to set MSR"; exit 134', 10_000), false);
  });
});

test('UMBRA_ACCEL overrides, and is checked', async () => {
  const qemu = { version: '1.0.0', binary: '/nonexistent', args: [] };
  const choose = (value: string) =>
    accelerator({ qemu, image: { kernel: '/k' }, environment: { UMBRA_ACCEL: value } });
  assert.is(await choose('tcg'), 'tcg');
  assert.is(await choose('kvm'), 'kvm');
  const error = await failure(choose('hax'));
  assert.ok(setupError('SETUP_BAD_ACCELERATOR')(error as Error));
});

test.run();
