/** Folders that another user made, or can enter: none of them is used. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ShadowError } from '../../shadow/index.ts';
import { makeOwnFolder, makeTrustedFolder } from '../../shadow/index.ts';
import { lookAtTree } from '../support/closed-tree.ts';

const OTHER_USER = 65_534;
const test = suite('own folder');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(tmpdir(), 'umbra-folder-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function refusal(make: (path: string) => void, path: string): string {
  try {
    make(path);
    return 'made';
  } catch (error) {
    assert.is((error as ShadowError).code, 'E_FOLDER_UNSAFE');
    return (error as Error).message;
  }
}

function folder(name: string, mode: number): string {
  const path = join(root, name);
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}

test('a folder that is made, and each above it, is closed to others, whatever the umask', () => {
  const before = process.umask(0);
  try {
    makeOwnFolder(join(root, 'a/b'));
    makeTrustedFolder(join(root, 'c'));
  } finally {
    process.umask(before);
  }
  for (const path of ['a', 'a/b', 'c']) assert.is(statSync(join(root, path)).mode & 0o777, 0o700);
  makeOwnFolder(join(root, 'a/b')); // once more
});

test('other users may read a trusted folder of ours, and may write to none', () => {
  assert.match(refusal(makeOwnFolder, folder('seen', 0o750)), /is open to others \(0750\)/);
  assert.is(refusal(makeTrustedFolder, folder('trusted', 0o755)), 'made');
  for (const mode of [0o770, 0o777, 0o1777]) {
    const path = folder(`mode-${mode}`, mode);
    assert.match(refusal(makeOwnFolder, path), /is open to others/);
    assert.match(refusal(makeTrustedFolder, path), /can be written to by others/);
  }
});

test('a link is not our own folder, wherever it leads, and neither is a file', () => {
  const there = folder('there', 0o700);
  symlinkSync(there, join(root, 'link'));
  assert.match(refusal(makeOwnFolder, join(root, 'link')), /is a link/);
  assert.is(refusal(makeTrustedFolder, join(root, 'link')), 'made', 'a link of ours');
  symlinkSync(folder('open', 0o777), join(root, 'link-out'));
  assert.match(refusal(makeTrustedFolder, join(root, 'link-out')), /written to by others/);
  writeFileSync(join(root, 'file'), '');
  assert.throws(() => makeOwnFolder(join(root, 'file')), /EEXIST/);
});

test('the check of a tree that these tests use finds what is open', () => {
  const path = folder('tree', 0o700);
  for (const [name, mode] of [
    ['closed', 0o600],
    ['seen', 0o644],
    ['group', 0o620],
  ] as const) {
    writeFileSync(join(path, name), '');
    chmodSync(join(path, name), mode);
  }
  symlinkSync('/etc/passwd', join(path, 'link'));
  const { open, files } = lookAtTree(path);
  assert.is(files, 4);
  assert.equal(open.map((line) => line.slice(path.length + 1).split(' ')[0]).sort(), [
    'group',
    'link',
    'seen',
  ]);
});

if (process.geteuid?.() === 0) {
  test('a folder of another user is refused, and so is a link of theirs', () => {
    const theirs = folder('theirs', 0o700);
    chownSync(theirs, OTHER_USER, OTHER_USER);
    assert.match(refusal(makeOwnFolder, theirs), /belongs to user 65534/);
    assert.match(refusal(makeTrustedFolder, theirs), /belongs to user 65534/);
  });
}

test.run();
