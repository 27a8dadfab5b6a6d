/**
 * A folded shadow is what was sealed: damage is not copied, and an undamaged shadow is not refused.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  foldShadow,
  type OnStep,
  openShadow,
  reclaimHoles,
  type SealedShadow,
  type ShadowError,
  StagingShadow,
  verifyShadow,
} from '../../shadow/index.ts';
import { Mapping } from '../../shadow/mapping.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const PAGE = 4096;
const PAGES = 700; // more than two chunks of checksums
const BASE_ROUND = 'r000001-00000000';
const DELTA_ROUND = 'r000002-00000000';
const FOLD_ROUND = 'r000003-00000000';

const test = suite('fold');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-fold-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

async function take(round: string, memory: Buffer, base?: SealedShadow): Promise<SealedShadow> {
  const location = placeOf(round);
  const layout = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
  const delta = base && { base, reservedBytes: 0, moreBytes: PAGES * PAGE, headroomBytes: 0 };
  const shadow = await StagingShadow.reserve(location, layout, PAGE, delta);
  const [ram] = shadow.match([{ idstr: 'pc.ram', usedLength: PAGES * PAGE }]);
  const zero = Buffer.alloc(PAGE);
  for (let at = 0; at < memory.length; at += PAGE) {
    if (memory.compare(zero, 0, PAGE, at, at + PAGE) === 0) ram?.zeroPage(at);
    else ram?.writePage(at, memory, at);
  }
  return openShadow(location.directory, (await shadow.seal(SEAL_INPUT)).sha256);
}

function placeOf(round: string) {
  return { directory: join(root, round, 'a'), member: 'a', round };
}

/** Takes a delta, and its base with holes. @returns the delta, and the memory it stores */
async function taken(): Promise<{ readonly delta: SealedShadow; readonly memory: Buffer }> {
  const memory = randomBytes(PAGES * PAGE);
  for (let page = 0; page < PAGES; page += 2) memory.fill(0, page * PAGE, (page + 1) * PAGE);
  const base = await take(BASE_ROUND, memory);
  memory.fill(7, 3 * PAGE, 5 * PAGE);
  return { delta: await take(DELTA_ROUND, memory, base), memory };
}

/** Folds a delta. @returns the memory of the folded shadow, which is verified */
async function fold(delta: SealedShadow, onStep?: OnStep): Promise<Buffer> {
  const location = placeOf(FOLD_ROUND);
  const { sha256 } = await foldShadow(delta, location, new AbortController().signal, onStep);
  await verifyShadow(await openShadow(location.directory, sha256), 'all');
  return readFileSync(join(location.directory, 'ram-0.img'));
}

const IMAGES: readonly (readonly [round: string, file: string])[] = [
  [BASE_ROUND, 'ram-0.img'],
  [DELTA_ROUND, 'ram-0.delta'],
];

/**
 * Changes bytes of a file, and then its times: the kernel's clock ticks too slowly to tell a write
 * from the seal just before.
 */
function rot(path: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.from('rot'), 0, 3, PAGE + 100);
  closeSync(fd);
  utimesSync(path, 1, 1);
}

for (const [round, file] of IMAGES) {
  for (const when of ['before', 'fold/staged', 'fold/copied']) {
    test(`${file} that rots ${when} is not folded, and is told by its name`, async () => {
      const { delta } = await taken();
      const path = join(root, round, 'a', file);
      if (when === 'before') rot(path);
      const before = readFileSync(path);
      const folded = fold(delta, (step) => {
        if (step === when) rot(path);
      });
      const { code, message } = await folded.then(
        () => assert.unreachable('it was folded') as never,
        (error: ShadowError) => error,
      );
      assert.is(code, 'E_EPOCH_CORRUPT');
      assert.match(message, path);
      assert.not(existsSync(join(root, FOLD_ROUND, 'a')));
      if (when === 'before') assert.ok(readFileSync(path).equals(before), 'it is as it was');
      for (const one of [BASE_ROUND, DELTA_ROUND]) await openShadow(join(root, one, 'a'));
    });
  }

  test(`${file} that is touched, but has the same content, is folded`, async () => {
    const { delta, memory } = await taken();
    const path = join(root, round, 'a', file);
    utimesSync(path, 1, 1);
    const folded = await fold(delta, (step) => {
      if (step === 'fold/copied') utimesSync(path, 2, 2);
    });
    assert.ok(folded.equals(memory));
  });
}

for (const when of ['fold/staged', 'fold/copied'] as const) {
  test(`holes that are freed during the fold (${when}) are no damage`, async () => {
    const { delta, memory } = await taken();
    const path = join(root, BASE_ROUND, 'a', 'ram-0.img');
    const mapping = new Mapping(path, PAGES * PAGE);
    mapping.copy(0, Buffer.alloc(PAGES * PAGE));
    mapping.close();
    const { base } = delta;
    if (base === undefined) return assert.unreachable();
    assert.is(statSync(path).blocks * 512, PAGES * PAGE, 'reading has filled them');
    let reclaimed: Promise<number> | undefined;
    const folded = await fold(delta, (step) => {
      if (step === when) reclaimed = reclaimHoles(base);
    });
    assert.ok(folded.equals(memory));
    assert.is(await reclaimed, (PAGES / 2) * PAGE);
  });
}

test.run();
