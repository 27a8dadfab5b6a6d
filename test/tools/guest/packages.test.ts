/** The guests' recipes, and the files they take out of packages. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DEBIAN_12 } from '../../../tools/guest/debian12.ts';
import { DEBIAN_13 } from '../../../tools/guest/debian13.ts';
import { kernelFiles } from '../../../tools/guest/packages.ts';
import { guestSources } from '../../../tools/guest/sources.ts';
import { unpackPackage } from '../../../tools/guest/unpack.ts';
import { SetupError } from '../../../tools/packages/errors.ts';
import { withFolder } from '../../support/switch-peer.ts';

const test = suite('guest recipes');

/** Makes a package with these files. @returns its path */
function makePackage(folder: string, files: readonly string[]): string {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  const control = 'Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: b\n';
  writeFileSync(join(tree, 'DEBIAN/control'), control);
  for (const file of files) {
    mkdirSync(join(tree, file, '..'), { recursive: true });
    writeFileSync(join(tree, file), file);
  }
  const path = join(folder, 'sample.deb');
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', tree, path], { stdio: 'ignore' });
  return path;
}

test('what a recipe takes is unpacked below /usr, of either layout', async () => {
  await withFolder(async (folder) => {
    const path = makePackage(folder, ['lib/libold.so.1', 'usr/lib/libnew.so.1', 'usr/share/doc/a']);
    const target = join(folder, 'root');
    const patterns = ['lib/libold.so.*', 'usr/lib/libnew.so.*'];
    await unpackPackage({ path, name: 'sample' }, patterns, target);
    assert.equal(readdirSync(join(target, 'usr/lib')), ['libnew.so.1', 'libold.so.1']);
    assert.equal(readdirSync(join(target, 'usr')), ['lib']);
  });
});

test('a pattern that matches nothing is named, with its package', async () => {
  await withFolder(async (folder) => {
    const path = makePackage(folder, ['usr/lib/libnew.so.2']);
    const patterns = ['usr/lib/libnew.so.2', 'usr/lib/libold.so.*', 'usr/bin/gone'];
    const file = { path, name: 'sample' };
    const error = await unpackPackage(file, patterns, join(folder, 'root')).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.instance(error, SetupError);
    assert.is((error as SetupError).code, 'SETUP_IMAGE_INCOMPLETE');
    assert.is(
      (error as SetupError).message,
      'sample: the package has no file usr/lib/libold.so.*, usr/bin/gone, ' +
        'which the recipe of the guest takes from it',
    );
  });
});

test('modules are looked for where the release has them', () => {
  const [, twelve] = kernelFiles(DEBIAN_12, ['virtio_net']);
  const [, thirteen] = kernelFiles(DEBIAN_13, ['virtio_net']);
  assert.is(twelve, 'lib/modules/*/virtio_net.ko');
  assert.is(thirteen, 'usr/lib/modules/*/virtio_net.ko.xz');
});

for (const recipe of [DEBIAN_12, DEBIAN_13]) {
  test(`the guest of ${recipe.files} has the files of every guest, and each once`, async () => {
    const paths = (await guestSources(recipe.files)).map(({ path }) => path);
    assert.equal([...new Set(paths)], paths);
    for (const path of ['root/init', 'src/control.c', 'root/usr/lib/umbra/modules']) {
      assert.ok(paths.includes(path), path);
    }
    assert.ok(paths.includes('root/etc/openmpi/openmpi-mca-params.conf'));
  });
}

test.run();
