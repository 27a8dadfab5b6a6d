/** Two sealed shadows of a few pages, the second a delta of the first. */
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openShadow, StagingShadow } from '../../../shadow/index.ts';
import { SEAL_INPUT } from '../../support/seal-input.ts';

export const PAGE = 4096;
export const PAGES = 6;
/** Folders of the two shadows. */
const BASE = 'r000001-0123abcd/a';
export const DELTA = 'r000002-0123abcd/a';

/** Seals both shadows. @returns the paths of their files, from `folder` */
export async function sealSmall(folder: string): Promise<string[]> {
  await seal(folder, BASE, memoryOf(1));
  await seal(folder, DELTA, memoryOf(2), join(folder, BASE));
  return [BASE, DELTA].flatMap((own) =>
    readdirSync(join(folder, own))
      .sort()
      .map((file) => join(own, file)),
  );
}

/** Makes a memory of one page of zeros, some that are alike, and some that differ by `kind`. */
export function memoryOf(kind: number): Buffer {
  const memory = Buffer.alloc(PAGES * PAGE);
  for (let page = 1; page < PAGES; page++) {
    memory.fill(page % 2 === 0 ? page : page + 100 * kind, page * PAGE, (page + 1) * PAGE);
  }
  return memory;
}

async function seal(folder: string, own: string, memory: Buffer, base?: string): Promise<void> {
  mkdirSync(dirname(join(folder, own)), { recursive: true });
  const location = { directory: join(folder, own), member: 'a', round: dirname(own) };
  const options =
    base === undefined
      ? undefined
      : {
          base: await openShadow(base),
          reservedBytes: PAGE,
          moreBytes: PAGES * PAGE,
          headroomBytes: 0,
        };
  const layout = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
  const staged = await StagingShadow.reserve(location, layout, PAGE, options);
  const [ram] = staged.match([{ idstr: 'pc.ram', usedLength: PAGES * PAGE }]);
  for (let at = 0; at < memory.length; at += PAGE) {
    if (memory[at] === 0) ram?.zeroPage(at);
    else ram?.writePage(at, memory, at);
  }
  await staged.seal({ ...SEAL_INPUT, vmdesc: '{}' });
}
