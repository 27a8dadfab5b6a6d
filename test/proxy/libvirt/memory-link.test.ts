import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readMaps } from '../../../proxy/host/proc-maps.ts';
import { imageUse, MemoryLink } from '../../../proxy/libvirt/memory-link.ts';
import { Mapping } from '../../../shadow/mapping.ts';
import { scratchFolder } from '../../support/scratch.ts';

const PAGE = 4096;
const OTHER_USER = 65_534;
const LIMIT_MS = 60_000;

const test = suite('memory link');
let directory = '';
let link: MemoryLink | undefined;

test.before.each(() => {
  directory = mkdtempSync(join(scratchFolder(), 'umbra-link-'));
  mkdirSync(join(directory, 'ram'));
  writeFileSync(join(directory, 'image'), Buffer.alloc(4 * PAGE, 'image'));
});

test.after.each(() => {
  link?.remove();
  rmSync(directory, { recursive: true, force: true });
});

function place(name = 'web'): MemoryLink {
  const options = { folder: join(directory, 'ram'), name, alias: 'pc.ram', uuid: 'none' };
  return new MemoryLink({ ...options, image: join(directory, 'image'), bytes: 4 * PAGE });
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !holds(); await delay(2)) {
    if (performance.now() > end) throw new Error('it did not come to be');
  }
}

test('the folder of its domain gets the link; it goes, the image stays', async () => {
  link = place();
  const path = join(directory, 'ram/7-web/pc.ram');
  for (const name of ['6-other', '6-web2', '6-my-web', 'web', '7-web']) {
    mkdirSync(join(directory, 'ram', name));
  }
  await until(() => existsSync(path));
  assert.is(readlinkSync(path), join(directory, 'image'));
  for (const name of ['6-other', '6-web2', '6-my-web', 'web']) {
    assert.not(existsSync(join(directory, 'ram', name, 'pc.ram')), name);
  }
  link.remove();
  link.remove();
  assert.not(existsSync(path));
  assert.ok(existsSync(join(directory, 'image')));
});

test('a file that is there already is left alone', async () => {
  link = place();
  const folder = join(directory, 'ram/7-web');
  const made = join(directory, 'made');
  mkdirSync(made);
  writeFileSync(join(made, 'pc.ram'), 'its own');
  renameSync(made, folder);
  await until(() => link?.why.includes('before') === true);
  link.remove();
  assert.ok(lstatSync(join(folder, 'pc.ram')).isFile());
});

test('a QEMU of another user, which may not open the image, does not find it', async () => {
  // For any user that runs this test: the folder is one user's, the image another's.
  const isRoot = process.getuid?.() === 0;
  const options = { folder: join(directory, 'ram'), name: 'web', alias: 'pc.ram', uuid: 'none' };
  const image = isRoot ? join(directory, 'image') : '/etc/passwd';
  link = new MemoryLink({ ...options, image, bytes: 4 * PAGE });
  const folder = join(directory, 'ram/7-web');
  mkdirSync(folder);
  if (isRoot) chownSync(folder, OTHER_USER, OTHER_USER);
  await until(() => link?.why.includes('may not open') === true);
  assert.equal(readdirSync(folder), []);
});

test('no folder to watch is an obstacle, not a failure', () => {
  rmSync(join(directory, 'ram'), { recursive: true });
  link = place();
  assert.match(link.why, 'ENOENT');
  assert.is(link.use(), 'unknown');
});

test('mappings of a process: private, shared, partial, or none', () => {
  const image = join(directory, 'image');
  const mapping = new Mapping(image, 4 * PAGE); // it is shared
  mapping.equals(0, Buffer.alloc(PAGE), 0, PAGE);
  const maps = readMaps(process.pid);
  mapping.close();
  assert.is(imageUse(maps, statSync(image), 4 * PAGE), 'shared');
  const program = statSync(process.execPath);
  assert.is(imageUse(maps, program, PAGE), 'private', 'its own program');
  assert.is(imageUse(maps, program, 2 ** 40), 'unknown', 'not all of it');
  assert.is(imageUse(maps, { dev: program.dev + 1, ino: program.ino }, PAGE), 'other');
  assert.is(imageUse(readMaps(process.pid), statSync(image), PAGE), 'other');
});

test.run();
