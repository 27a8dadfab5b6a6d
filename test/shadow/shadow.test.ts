import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  isUntouched,
  openShadow,
  reclaimHoles,
  SealedRam,
  type ShadowError,
  StagingShadow,
  verifyShadow,
} from '../../shadow/index.ts';
import { Mapping } from '../../shadow/mapping.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const PAGE = 4096;
const LAYOUT = [
  { idstr: 'pc.ram', length: 64 * PAGE },
  { idstr: 'pc.bios', length: 4 * PAGE },
  { idstr: 'not-migrated', length: 2 * PAGE },
];
const STREAMED = [
  { idstr: 'pc.bios', usedLength: 4 * PAGE },
  { idstr: 'pc.ram', usedLength: 64 * PAGE },
];
const SEAL = { ...SEAL_INPUT, vmdesc: '{}' };

const test = suite('shadow');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-shadow-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function reserve(name = 'a'): Promise<StagingShadow> {
  const location = { directory: join(root, name), member: name, round: 'r1' };
  return StagingShadow.reserve(location, LAYOUT, PAGE);
}

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return (error as ShadowError).code;
  }
}

async function rejection(promise: Promise<unknown>): Promise<ShadowError> {
  return promise.then(
    () => assert.unreachable() as never,
    (error: ShadowError) => error,
  );
}

async function sealed() {
  const shadow = await reserve();
  const [bios, ram] = shadow.match(STREAMED);
  const content = randomBytes(64 * PAGE);
  content.fill(0, 5 * PAGE, 9 * PAGE);
  for (let page = 0; page < 64; page++) {
    const zero = page >= 5 && page < 9;
    if (zero) ram?.zeroPage(page * PAGE);
    else ram?.writePage(page * PAGE, content, page * PAGE);
  }
  bios?.writePage(0, content, PAGE);
  const result = await shadow.seal(SEAL);
  return { ...result, content, directory: shadow.directory };
}

test('pages are stored as they were written, each in its place', async () => {
  const { manifest, content, directory } = await sealed();
  assert.equal(
    manifest.blocks.map(({ idstr }) => idstr),
    ['pc.bios', 'pc.ram'],
  );
  const ram = manifest.blocks[1];
  const stored = readFileSync(join(directory, ram?.file ?? ''));
  assert.ok(stored.equals(content));
  assert.is(readdirSync(directory).filter((name) => name.endsWith('.img')).length, 2);
});

test('pages of zeros cost no memory, and reading does not fill them', async () => {
  const { manifest, directory } = await sealed();
  const path = join(directory, manifest.blocks[1]?.file ?? '');
  const expected = 60 * PAGE;
  assert.is(manifest.blocks[1]?.storedBytes, expected);
  assert.is(statSync(path).blocks * 512, expected);
  await verifyShadow(await openShadow(directory), 'all');
  const ram = await SealedRam.open(await openShadow(directory));
  const page = Buffer.alloc(PAGE);
  for (let offset = 0; offset < 64 * PAGE; offset += PAGE) ram.read(1, offset, page, 0);
  ram.close();
  assert.is(statSync(path).blocks * 512, expected);
});

/** Reads an image through a mapping, as a VM does that was restored from it. */
function readMapped(path: string): void {
  const { size } = statSync(path);
  const mapping = new Mapping(path, size);
  mapping.copy(0, Buffer.alloc(size));
  mapping.close();
}

test('holes that were read through a mapping are freed, and nothing else changes', async () => {
  const { manifest, directory, content } = await sealed();
  const path = join(directory, manifest.blocks[1]?.file ?? '');
  readMapped(path);
  assert.is(statSync(path).blocks * 512, 64 * PAGE);
  const shadow = await openShadow(directory);
  assert.is(await reclaimHoles(shadow), 4 * PAGE);
  assert.is(statSync(path).blocks * 512, 60 * PAGE);
  assert.ok(readFileSync(path).equals(content));
  await verifyShadow(shadow, 'all');
  assert.ok(await isUntouched(shadow), 'the next epoch can be stored against it');
  assert.is(await reclaimHoles(shadow), 0);
});

test('holes of a touched image are not freed, and it does not become untouched', async () => {
  const { manifest, directory } = await sealed();
  const path = join(directory, manifest.blocks[1]?.file ?? '');
  readMapped(path);
  flip(path);
  const shadow = await openShadow(directory);
  assert.is(await reclaimHoles(shadow), 0);
  assert.not(await isUntouched(shadow));
});

test('a page that was written and is then zeros reads as zeros', async () => {
  const shadow = await reserve();
  const [, ram] = shadow.match(STREAMED);
  ram?.writePage(PAGE, randomBytes(PAGE), 0);
  ram?.zeroPage(PAGE);
  const { manifest } = await shadow.seal(SEAL);
  const stored = readFileSync(join(shadow.directory, manifest.blocks[1]?.file ?? ''));
  assert.ok(stored.equals(Buffer.alloc(64 * PAGE)));
  assert.is(manifest.blocks[1]?.storedBytes, 0);
});

test('a page counts once against the allowance, however often it becomes zeros', async () => {
  const location = { directory: join(root, 'a'), member: 'a', round: 'r1' };
  const options = { reservedBytes: PAGE, moreBytes: 2 * PAGE, headroomBytes: 0 };
  const layout = [{ idstr: 'pc.ram', length: 64 * PAGE }];
  const shadow = await StagingShadow.reserve(location, layout, PAGE, options);
  const [ram] = shadow.match([{ idstr: 'pc.ram', usedLength: 64 * PAGE }]);
  const content = randomBytes(PAGE);
  for (let pass = 0; pass < 5; pass++) {
    for (let page = 0; page < 3; page++) {
      ram?.writePage(page * PAGE, content, 0);
      ram?.zeroPage(page * PAGE);
    }
  }
  // Another page has memory of its own: what those have had is not given back before the seal.
  assert.is(
    codeOf(() => ram?.writePage(3 * PAGE, content, 0)),
    'E_STORE_NO_ROOM',
  );
  ram?.writePage(2 * PAGE, content, 0);
  ram?.flush();
  assert.is(statSync(join(shadow.directory, 'ram-0.img')).blocks * 512, 3 * PAGE);
  const { storedBytes, sha256 } = await shadow.seal(SEAL);
  assert.is(storedBytes, PAGE);
  await verifyShadow(await openShadow(shadow.directory, sha256), 'all');
});

test('sealed RAM is read back page by page', async () => {
  const { directory, content } = await sealed();
  const ram = await SealedRam.open(await openShadow(directory));
  const page = Buffer.alloc(PAGE);
  assert.is(ram.read(1, 5 * PAGE, page, 0), false);
  assert.is(ram.read(1, 63 * PAGE, page, 0), true);
  assert.ok(page.equals(content.subarray(63 * PAGE)));
  assert.is(ram.read(1, 0, page, 0), true);
  assert.ok(page.equals(content.subarray(0, PAGE)));
  ram.close();
});

test('a reservation takes the memory before a page is written', async () => {
  const shadow = await reserve();
  const path = join(shadow.directory, 'ram-0.img');
  assert.is(statSync(path).blocks * 512, 64 * PAGE);
});

test('blocks that disagree with the reservation are refused', async () => {
  const shadow = await reserve();
  const grown = [{ idstr: 'pc.ram', usedLength: 65 * PAGE }];
  const unknown = [{ idstr: 'pc.ram2', usedLength: PAGE }];
  assert.is(
    codeOf(() => shadow.match(grown)),
    'E_SHADOW_LAYOUT',
  );
  assert.is(
    codeOf(() => shadow.match(unknown)),
    'E_SHADOW_LAYOUT',
  );
});

test('pages are borrowed until the flush, and no longer', async () => {
  const shadow = await reserve();
  const [, ram] = shadow.match(STREAMED);
  const chunk = randomBytes(PAGE);
  const kept = Buffer.from(chunk);
  ram?.writePage(0, chunk, 0);
  ram?.flush();
  chunk.fill(1);
  const page = Buffer.alloc(PAGE);
  ram?.readPages(0, page);
  assert.ok(page.equals(kept));
  ram?.close();
});

test('runs, gaps, repeats and zeros in any order end as the last write of each page', async () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return (seed >>> 16) % below;
  };
  const shadow = await reserve();
  const [, ram] = shadow.match(STREAMED);
  const expected = Buffer.alloc(64 * PAGE);
  const source = randomBytes(64 * PAGE);
  let offset = 0;
  for (let step = 0; step < 5000; step++) {
    offset = random(3) === 0 ? random(64) * PAGE : (offset + PAGE) % (64 * PAGE);
    const at = random(64) * PAGE;
    if (random(4) === 0) {
      ram?.zeroPage(offset);
      expected.fill(0, offset, offset + PAGE);
    } else {
      ram?.writePage(offset, source, at);
      source.copy(expected, offset, at, at + PAGE);
    }
    if (random(10) === 0) ram?.flush();
  }
  const all = Buffer.alloc(expected.length, 'stale');
  ram?.readPages(0, all);
  assert.ok(all.equals(expected), 'in runs and gaps, before the seal');
  const { manifest } = await shadow.seal(SEAL);
  const stored = readFileSync(join(shadow.directory, manifest.blocks[1]?.file ?? ''));
  assert.ok(stored.equals(expected));
});

test('a page outside its block is refused', async () => {
  const shadow = await reserve();
  const [, ram] = shadow.match(STREAMED);
  assert.is(
    codeOf(() => ram?.writePage(64 * PAGE, Buffer.alloc(PAGE), 0)),
    'E_SHADOW_LAYOUT',
  );
});

test('a discarded shadow is gone, and writing to it fails rather than crashes', async () => {
  const shadow = await reserve();
  const [, ram] = shadow.match(STREAMED);
  await shadow.discard();
  assert.not(existsSync(shadow.directory));
  assert.is(
    codeOf(() => ram?.writePage(0, Buffer.alloc(PAGE), 0)),
    'E_SHADOW_CLOSED',
  );
  assert.is((await rejection(shadow.seal(SEAL))).code, 'E_SHADOW_CLOSED');
});

const DAMAGE: readonly (readonly [name: string, harm: (path: string) => void])[] = [
  ['a flipped bit', (path) => flip(join(path, 'ram-0.img'))],
  ['a flipped bit where no page is', (path) => flip(join(path, 'ram-0.img'), (64 - 6) * PAGE)],
  [
    'a shortened image',
    (path) => change(join(path, 'ram-0.img'), (file) => truncateSync(file, PAGE)),
  ],
  ['a missing image', (path) => rmSync(join(path, 'ram-1.img'))],
  ['a flipped bit in an index', (path) => flip(join(path, 'ram-0.idx'))],
  ['a missing index', (path) => rmSync(join(path, 'ram-0.idx'))],
  ['a changed manifest', (path) => flip(join(path, 'shadow.json'), 40)],
  ['changed device state', (path) => flip(join(path, 'device-state.bin'))],
];

for (const [name, harm] of DAMAGE) {
  for (const mode of ['changed', 'all'] as const) {
    test(`${name} is found (${mode})`, async () => {
      const { directory } = await sealed();
      await verifyShadow(await openShadow(directory), mode);
      harm(directory);
      const error = await rejection(openShadow(directory).then((one) => verifyShadow(one, mode)));
      assert.match(error.code, /^E_(EPOCH_CORRUPT|MANIFEST_INVALID)$/);
      assert.match(error.message, directory);
    });
  }
}

test('a manifest that is not the one the epoch names is refused', async () => {
  const { directory, sha256 } = await sealed();
  assert.is((await openShadow(directory, sha256)).manifest.member, 'a');
  const other = await rejection(openShadow(directory, '0'.repeat(64)));
  assert.is(other.code, 'E_EPOCH_CORRUPT');
});

function change(path: string, how: (path: string) => void): void {
  chmodSync(path, 0o600);
  how(path);
}

function flip(path: string, fromEnd = 1): void {
  change(path, () => {
    const bytes = readFileSync(path);
    const at = bytes.length - fromEnd;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  });
}

test.run();
