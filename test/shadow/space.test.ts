/** Memory that epochs occupy, and pins: on a store made by hand. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Catalogue,
  type EpochManifest,
  makeEpochManifest,
  measureEpochs,
  pinEpoch,
  pinnedEpochs,
  sha256Of,
  unpinEpoch,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const PAGE = 4096;
const WITNESS = { boot: '', inode: '', size: 0, modifiedNs: '', changedNs: '' };

const test = suite('space and pins');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-space-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

const roundOf = (epoch: number) => `r${String(epoch).padStart(6, '0')}-0123abcd`;

function epoch(number: number, members: readonly string[] = ['a']): EpochManifest {
  return makeEpochManifest({
    cluster: 'demo',
    epoch: number,
    round: roundOf(number),
    createdAt: '2030-01-01T00:00:00.000Z',
    members: members.map((name) => ({ name, shadow: 'f'.repeat(64) })),
  });
}

/** Makes the folder of a shadow: an image of so many pages, and a manifest of one page. */
function shadow(number: number, pages: number, base?: string, member = 'a'): void {
  const folder = join(root, roundOf(number), member);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'ram-0.img'), Buffer.alloc(pages * PAGE, 1));
  const file = { file: 'a.bin', bytes: 0, sha256: 'f'.repeat(64), witness: WITNESS };
  const image = { idstr: 'pc.ram', bytes: 0, kind: 'full', file: 'ram-0.img', fileBytes: 0 };
  const body = {
    format: 'umbra-shadow',
    version: 2,
    member,
    round: roundOf(number),
    identity: SEAL_INPUT.identity,
    pageSize: PAGE,
    ...(base !== undefined && { base: { round: base, shadow: 'f'.repeat(64) } }),
    blocks: [{ ...image, witness: WITNESS, storedBytes: 0, index: file }],
    configuration: file,
    deviceState: file,
  };
  const sha256 = sha256Of(JSON.stringify(body));
  writeFileSync(join(folder, 'shadow.json'), JSON.stringify({ sha256, body }));
}

/** Measures epochs. @returns pages [own, shared] by epoch */
async function pages(...epochs: readonly EpochManifest[]): Promise<Record<number, number[]>> {
  const spaces = await measureEpochs(root, epochs);
  return Object.fromEntries(
    [...spaces].map(([number, { ownBytes, sharedBytes }]) => {
      return [number, [ownBytes / PAGE, sharedBytes / PAGE]];
    }),
  );
}

test('a full epoch shares nothing, with any of its members', async () => {
  shadow(1, 10);
  shadow(1, 5, undefined, 'b');
  shadow(2, 20);
  assert.equal(await pages(epoch(1, ['a', 'b']), epoch(2)), { 1: [17, 0], 2: [21, 0] });
});

test('a base is shared by the epochs that refer to it, its own included', async () => {
  shadow(1, 10);
  shadow(2, 3, roundOf(1));
  shadow(3, 4, roundOf(1));
  const [one, two, three] = [epoch(1), epoch(2), epoch(3)];
  assert.equal(await pages(one, two, three), { 1: [0, 11], 2: [4, 11], 3: [5, 11] });
  // Its own epoch is gone: two still share it, and at last it is one's own.
  assert.equal(await pages(two, three), { 2: [4, 11], 3: [5, 11] });
  assert.equal(await pages(two), { 2: [15, 0] });
});

test('holes and missing folders count nothing, and a base outside the store is none', async () => {
  shadow(1, 0);
  truncateSync(join(root, roundOf(1), 'a', 'ram-0.img'), 100 * PAGE);
  mkdirSync(join(root, 'elsewhere'));
  writeFileSync(join(root, 'elsewhere', 'big'), Buffer.alloc(50 * PAGE, 1));
  shadow(2, 1, '../elsewhere');
  assert.equal(await pages(epoch(1), epoch(2), epoch(3)), { 1: [1, 0], 2: [2, 0], 3: [0, 0] });
});

test('a pin outlives its maker, leaves the manifest alone, and can be taken back', async () => {
  const directory = join(root, 'epochs');
  const catalogue = new Catalogue(directory, 'demo');
  await catalogue.prepare();
  await catalogue.publish(epoch(7));
  const before = readFileSync(join(directory, '000007.json'));
  await pinEpoch(directory, 7);
  await pinEpoch(directory, 7);
  assert.equal([...(await pinnedEpochs(directory))], [7]);
  assert.equal(readFileSync(join(directory, '000007.json')), before);
  const { epochs, damaged } = await new Catalogue(directory, 'demo').list();
  assert.equal([epochs.length, damaged.length], [1, 0]);
  await unpinEpoch(directory, 7);
  await unpinEpoch(directory, 7);
  assert.not(readdirSync(directory).includes('000007.pin'));
});

test.run();
