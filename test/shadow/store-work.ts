/**
 * Takes epochs of a made-up member, retires old ones, folds and collects, continuing from the
 * store's present state. store-work-child.ts runs it as a process that dies at a step.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  Catalogue,
  collectLeftovers,
  foldShadow,
  makeEpochManifest,
  type OnStep,
  openShadow,
  type SealedShadow,
  StagingShadow,
} from '../../shadow/index.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

export const PAGE = 4096;
export const PAGES = 300;
export const EPOCHS = 5;
const KEEP = 2;
/** Epoch that is folded. */
const FOLDED = 4;

/** Makes the memory of an epoch: all pages but a few have content, and each epoch changes some. */
export function memoryOfEpoch(epoch: number): Buffer {
  const memory = Buffer.alloc(PAGES * PAGE);
  for (let page = 20; page < PAGES; page++) {
    const changes = page % 10 === epoch % 10 ? epoch : 0;
    memory.fill(1 + ((page * 7 + changes) % 250), page * PAGE, (page + 1) * PAGE);
  }
  return memory;
}

export async function takeEpochs(root: string, onStep: OnStep): Promise<void> {
  const shadows = join(root, 'shadows');
  mkdirSync(shadows, { recursive: true });
  let taken = 0;
  const tell: OnStep = (step) => {
    if (taken >= KEEP) onStep(step);
  };
  const catalogue = new Catalogue(join(root, 'epochs'), 'demo', tell);
  await catalogue.prepare();
  await collectLeftovers(shadows, catalogue, { onStep: tell });
  for (;;) {
    const { epochs } = await catalogue.list();
    const newest = epochs.at(-1);
    taken = newest?.epoch ?? 0;
    for (const { epoch } of epochs.slice(0, -KEEP)) await catalogue.retire(epoch);
    await collectLeftovers(shadows, catalogue, { onStep: tell });
    if (newest?.epoch === FOLDED) await fold(catalogue, shadows, tell);
    if (taken >= EPOCHS) return;
    await take(catalogue, shadows, await catalogue.nextEpoch());
  }
}

async function take(catalogue: Catalogue, shadows: string, epoch: number): Promise<void> {
  const base = await baseFor(catalogue, shadows);
  const round = roundOf(epoch);
  const location = { directory: join(shadows, round, 'a'), member: 'a', round };
  const layout = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
  const delta = base && { base, reservedBytes: PAGE, moreBytes: PAGES * PAGE, headroomBytes: 0 };
  const staged = await StagingShadow.reserve(location, layout, PAGE, delta);
  const [ram] = staged.match([{ idstr: 'pc.ram', usedLength: PAGES * PAGE }]);
  const memory = memoryOfEpoch(epoch);
  for (let at = 0; at < memory.length; at += PAGE) {
    if (memory[at] === 0) ram?.zeroPage(at);
    else ram?.writePage(at, memory, at);
  }
  const { sha256: shadow } = await staged.seal(SEAL_INPUT);
  const manifest = makeEpochManifest({
    cluster: 'demo',
    epoch,
    round,
    createdAt: '2030-01-01T00:00:00.000Z',
    members: [{ name: 'a', shadow }],
  });
  await catalogue.publish(manifest);
}

async function baseFor(catalogue: Catalogue, shadows: string): Promise<SealedShadow | undefined> {
  const newest = (await catalogue.list()).epochs.at(-1);
  if (newest === undefined) return undefined;
  const opened = await openShadow(join(shadows, newest.round, 'a'), newest.members[0]?.shadow);
  return opened.base ?? opened;
}

async function fold(catalogue: Catalogue, shadows: string, onStep: OnStep): Promise<void> {
  const epoch = await catalogue.read(FOLDED);
  const shadow = await openShadow(join(shadows, epoch.round, 'a'), epoch.members[0]?.shadow);
  if (shadow.base === undefined) return;
  const round = roundOf(90 + FOLDED);
  const location = { directory: join(shadows, round, 'a'), member: 'a', round };
  const { signal } = new AbortController();
  const { sha256 } = await foldShadow(shadow, location, signal, onStep);
  await catalogue.replace({ ...epoch, round, members: [{ name: 'a', shadow: sha256 }] });
  await collectLeftovers(shadows, catalogue, { onStep });
}

function roundOf(epoch: number): string {
  return `r${String(epoch).padStart(6, '0')}-00000000`;
}
