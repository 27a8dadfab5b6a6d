/** Chains: each epoch stores what was written since the one before, and any of them reads right. */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  Catalogue,
  collectLeftovers,
  cutOf,
  foldShadow,
  makeEpochManifest,
  openShadow,
  rootOf,
  SealedRam,
  type SealedShadow,
  StagingShadow,
  verifyShadow,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';
import { suite } from '../support/suite.ts';

const test = suite('chain of links');
const PAGE = 4096;
const PAGES = 700;
const BLOCKS = [
  { idstr: 'pc.ram', length: PAGES * PAGE },
  { idstr: 'vga.vram', length: 16 * PAGE },
];
const FREELY = { moreBytes: 2 ** 30, headroomBytes: 0, reservedBytes: 0 };

let root = '';
test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-chain-'));
  mkdirSync(join(root, 'epochs'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function nameOf(number: number): string {
  return `r${String(number).padStart(6, '0')}-0123abcd`;
}

/** Memory as a guest would have it: what each epoch must read as. */
class Memory {
  readonly blocks = BLOCKS.map(({ length }) => Buffer.alloc(length));
  #seed = 7;

  random(below: number): number {
    this.#seed = (this.#seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return (this.#seed >>> 8) % below;
  }

  /** Writes some runs of pages of the first block. @returns them, in ascending order */
  write(): { page: number; count: number; zeros: boolean }[] {
    const runs: { page: number; count: number; zeros: boolean }[] = [];
    for (let page = this.random(40); page < PAGES; page += 1 + this.random(60)) {
      const count = Math.min(1 + this.random(9), PAGES - page);
      const zeros = this.random(5) === 0;
      const bytes = this.blocks[0]?.subarray(page * PAGE, (page + count) * PAGE);
      for (let at = 0; at < (bytes?.length ?? 0); at += 64) {
        bytes?.fill(zeros ? 0 : this.random(256), at, at + 64);
      }
      runs.push({ page, count, zeros });
      page += count;
    }
    return runs;
  }
}

async function full(memory: Memory, round: string): Promise<SealedShadow> {
  const directory = join(root, 'shadows', round, 'a');
  const staged = await StagingShadow.reserve({ directory, member: 'a', round }, BLOCKS, PAGE);
  for (const [at, image] of staged.runImages().entries()) {
    const bytes = memory.blocks[at] ?? Buffer.alloc(0);
    image.image.writeRuns([{ page: 0, count: bytes.length / PAGE }], bytes);
  }
  staged.match(BLOCKS.map(({ idstr, length }) => ({ idstr, usedLength: length })));
  const { sha256 } = await staged.seal(SEAL_INPUT);
  return openShadow(directory, sha256);
}

async function link(
  memory: Memory,
  round: string,
  base: SealedShadow,
  passes = 1,
): Promise<SealedShadow> {
  const directory = join(root, 'shadows', round, 'a');
  const options = { ...FREELY, link: base };
  const location = { directory, member: 'a', round };
  const staged = await StagingShadow.reserve(location, BLOCKS, PAGE, options);
  const [ram] = staged.runImages();
  for (let pass = 0; pass < passes; pass++) {
    const runs = memory.write();
    const written = runs.filter(({ zeros }) => !zeros);
    const bytes = written.map(({ page, count }) =>
      memory.blocks[0]?.subarray(page * PAGE, (page + count) * PAGE),
    );
    ram?.image.writeRuns(written, Buffer.concat(bytes.flatMap((one) => one ?? [])));
    for (const run of runs.filter(({ zeros }) => zeros)) ram?.image.zeroRun(run);
  }
  const { sha256 } = await staged.seal(SEAL_INPUT);
  return openShadow(directory, sha256);
}

async function read(shadow: SealedShadow): Promise<Buffer> {
  const ram = await SealedRam.open(shadow);
  try {
    const memory = Buffer.alloc(PAGES * PAGE);
    for (let offset = 0; offset < memory.length; offset += PAGE) {
      ram.read(0, offset, memory, offset);
    }
    return memory;
  } finally {
    ram.close();
  }
}

test('sixty links: each reads as memory was, and holds what was written', async () => {
  const memory = new Memory();
  memory.write();
  const kept: { shadow: SealedShadow; memory: Buffer }[] = [];
  let newest = await full(memory, nameOf(0));
  for (let number = 1; number <= 60; number++) {
    newest = await link(memory, nameOf(number), newest, 1 + (number % 3));
    kept.push({ shadow: newest, memory: Buffer.from(memory.blocks[0] ?? '') });
  }
  for (const one of kept) {
    assert.ok((await read(one.shadow)).equals(one.memory), one.shadow.manifest.round);
    await verifyShadow(one.shadow, 'all');
  }
  assert.is(rootOf(newest).manifest.round, nameOf(0));
});

test('what a map restore sends is what was written since the root, once', async () => {
  const memory = new Memory();
  const first = await full(memory, nameOf(0));
  const before = Buffer.from(memory.blocks[0] ?? '');
  const second = await link(memory, nameOf(1), first);
  const third = await link(memory, nameOf(2), second);
  const ram = await SealedRam.open(third);
  const own = ram.ownPages(0);
  ram.close();
  assert.is(new Set(own).size, own.length);
  const sent = new Set(own);
  for (let offset = 0; offset < PAGES * PAGE; offset += PAGE) {
    const now = memory.blocks[0]?.subarray(offset, offset + PAGE);
    if (now?.equals(before.subarray(offset, offset + PAGE)) === false) assert.ok(sent.has(offset));
  }
});

test('a link whose guest wrote nothing takes no memory for pages', async () => {
  const memory = new Memory();
  const base = await full(memory, nameOf(0));
  const directory = join(root, 'shadows', nameOf(1), 'a');
  const location = { directory, member: 'a', round: nameOf(1) };
  const staged = await StagingShadow.reserve(location, BLOCKS, PAGE, { ...FREELY, link: base });
  const { sha256, storedBytes } = await staged.seal(SEAL_INPUT);
  assert.is(storedBytes, 0);
  assert.is(statSync(join(directory, 'ram-0.delta')).size, 0);
  const idle = await openShadow(directory, sha256);
  await verifyShadow(idle, 'all');
  assert.ok((await read(idle)).equals(memory.blocks[0] ?? Buffer.alloc(0)));
});

test('any epoch may go: the others read as before, and what none needs goes', async () => {
  const memory = new Memory();
  const catalogue = new Catalogue(join(root, 'epochs'), 'demo');
  await catalogue.prepare();
  const kept = new Map<number, { round: string; memory: Buffer }>();
  let newest = await full(memory, nameOf(0));
  for (let number = 1; number <= 8; number++) {
    newest = await link(memory, nameOf(number), newest);
    const round = nameOf(number);
    const members = [{ name: 'a', shadow: newest.sha256 }];
    const createdAt = new Date(0).toISOString();
    await catalogue.publish(
      makeEpochManifest({ cluster: 'demo', epoch: number, round, createdAt, members }),
    );
    kept.set(number, { round, memory: Buffer.from(memory.blocks[0] ?? '') });
  }
  const shadows = join(root, 'shadows');
  for (const going of [3, 8, 1, 7, 5]) {
    await catalogue.retire(going);
    kept.delete(going);
    await collectLeftovers(shadows, catalogue);
    for (const { epoch, members, round } of (await catalogue.list()).epochs) {
      const shadow = await openShadow(join(shadows, round, 'a'), members[0]?.shadow);
      assert.ok((await read(shadow)).equals(kept.get(epoch)?.memory ?? Buffer.alloc(0)));
    }
  }
  for (const gone of [8, 7]) {
    assert.throws(() => statSync(join(shadows, nameOf(gone))), undefined, `${gone} is not needed`);
  }
  for (const needed of [0, 1, 3, 5]) statSync(join(shadows, nameOf(needed)));
});

test('a chain is folded into a full shadow of the same cut; the next link follows', async () => {
  const memory = new Memory();
  const second = await link(memory, nameOf(1), await full(memory, nameOf(0)));
  const third = await link(memory, nameOf(2), second);
  const directory = join(root, 'shadows', nameOf(9), 'a');
  const location = { directory, member: 'a', round: nameOf(9) };
  const { sha256 } = await foldShadow(third, location, new AbortController().signal);
  const folded = await openShadow(directory, sha256);
  assert.is(folded.base, undefined);
  assert.is(cutOf(folded.manifest), nameOf(2));
  assert.ok((await read(folded)).equals(memory.blocks[0] ?? Buffer.alloc(0)));
  const next = await link(memory, nameOf(3), folded);
  assert.ok((await read(next)).equals(memory.blocks[0] ?? Buffer.alloc(0)));
});

test('a link of other RAM than its base is refused', async () => {
  const base = await full(new Memory(), nameOf(0));
  const directory = join(root, 'shadows', nameOf(1), 'a');
  const location = { directory, member: 'a', round: nameOf(1) };
  const layout = [{ idstr: 'pc.ram', length: 2 * PAGES * PAGE }];
  const made = StagingShadow.reserve(location, layout, PAGE, { ...FREELY, link: base });
  const code = await made.then(
    () => undefined,
    (error) => error.code,
  );
  assert.is(code, 'E_SHADOW_LAYOUT');
  assert.throws(() => statSync(directory));
});

test('a link takes no more memory than it was admitted for', async () => {
  const base = await full(new Memory(), nameOf(0));
  const directory = join(root, 'shadows', nameOf(1), 'a');
  const location = { directory, member: 'a', round: nameOf(1) };
  const options = { ...FREELY, moreBytes: 2 * PAGE, link: base };
  const staged = await StagingShadow.reserve(location, BLOCKS, PAGE, options);
  const [ram] = staged.runImages();
  ram?.image.writeRuns([{ page: 4, count: 2 }], Buffer.alloc(2 * PAGE, 1));
  ram?.image.writeRuns([{ page: 5, count: 1 }], Buffer.alloc(PAGE, 2)); // the same page again
  assert.throws(() => ram?.image.writeRuns([{ page: 9, count: 1 }], Buffer.alloc(PAGE, 3)));
  await staged.discard();
});

test.run();
