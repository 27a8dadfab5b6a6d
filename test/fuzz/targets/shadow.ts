/**
 * Fuzz target: a sealed shadow, one of whose files is replaced:   FILE, NUL, content
 *
 * Opening, verifying and reading throw nothing but a ShadowError. A shadow that passes verification
 * reads as it was sealed, unless its manifest itself was replaced by one whose digest is right.
 */
import { strict as assert } from 'node:assert';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openShadow, SealedRam, ShadowError, verifyShadow } from '../../../shadow/index.ts';
import { seedsOf } from '../corpus.ts';
import { mutateLines } from '../mutate-lines.ts';
import { codeOf, type Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';
import { mend } from './manifest.ts';
import { DELTA, memoryOf, PAGE, PAGES } from './small-shadow.ts';

const folder = makeFolder('shadow');
/** Files of the shadow, from the seeds `whole-…`: a base, and the delta that is opened. */
const whole = new Map(
  seedsOf('shadow')
    .filter(({ name }) => name.startsWith('whole-'))
    .map(({ input }) => partsOf(input)),
);
for (const [file, content] of whole) {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), content);
}
const delta = join(folder, DELTA);
const memory = memoryOf(2);

export const target: Target = {
  covers: [
    'shadow/sealed-ram.ts',
    'shadow/sealed-shadow.ts',
    'shadow/verify.ts',
    'shadow/image-reader.ts',
    'shadow/manifest.ts',
    'shadow/page-index.ts',
  ],
  inputBytesMax: 200_000,
  words: [
    ...[...whole.keys()].map((file) => `${file}\0`),
    '"bytes":',
    '"pageSize":1',
    '"kind":"full"',
  ],
  mutate: (input, random) => {
    const [file, content] = partsOf(input);
    if (!file.endsWith('.json')) return input;
    return joined(file, mutateLines(content, random));
  },
  mend: (input) => {
    const [file, content] = partsOf(input);
    return file.endsWith('.json') ? joined(file, mend(content)) : input;
  },
  async check(input) {
    const [file, content] = partsOf(input);
    const original = whole.get(file);
    if (original === undefined) return 'no such file';
    writeFileSync(join(folder, file), content);
    try {
      const shadow = await openShadow(delta);
      await verifyShadow(shadow, 'all');
      const ram = await SealedRam.open(shadow);
      try {
        const page = Buffer.alloc(PAGE);
        const { blocks, pageSize } = shadow.manifest;
        if (pageSize !== PAGE || blocks[0]?.bytes !== PAGES * PAGE)
          return 'accepted: another shape';
        for (let at = 0; at < PAGES * PAGE; at += PAGE) {
          if (!ram.read(0, at, page, 0)) page.fill(0);
          const same = page.equals(memory.subarray(at, at + PAGE));
          assert.ok(same || file.endsWith('shadow.json'), `another page at ${at}`);
        }
      } finally {
        ram.close();
      }
      return 'accepted';
    } catch (error) {
      return codeOf(error, ShadowError);
    } finally {
      writeFileSync(join(folder, file), original);
    }
  },
};

function partsOf(input: Buffer): [string, Buffer] {
  const end = input.indexOf(0);
  return [input.toString('utf8', 0, Math.max(0, end)), input.subarray(end + 1)];
}

function joined(file: string, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${file}\0`), content]);
}
