/**
 * Power cut at every named step of commit, retire, collect and fold: a process works on a store on
 * tmpfs and is killed right there. Afterwards every epoch that is listed is whole and holds its
 * content, and nothing is left of the interrupted work.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import {
  Catalogue,
  collectLeftovers,
  openShadow,
  SealedRam,
  STORE_STEPS,
  verifyShadow,
} from '../../shadow/index.ts';
import { type Bundled, bundled } from '../support/bundled.ts';
import { scratchFolder } from '../support/scratch.ts';
import { suite } from '../support/suite.ts';
import { EPOCHS, memoryOfEpoch, PAGE, PAGES, takeEpochs } from './store-work.ts';

const WORKER = fileURLToPath(new URL('./store-work-child.ts', import.meta.url));

const test = suite('power cut');
let root = '';
let worker: Bundled;

test.before(async () => {
  worker = await bundled(WORKER);
});
test.after(() => worker.remove());

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-cut-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Lets a process work until a step. @returns the signal that ended it */
function workUntil(step: string): string | null {
  const args = [worker.path, root, step];
  const { signal, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (stderr !== '') throw new Error(stderr);
  return signal;
}

async function requireSound(): Promise<number[]> {
  const catalogue = new Catalogue(join(root, 'epochs'), 'demo');
  const shadows = join(root, 'shadows');
  const { epochs, damaged } = await catalogue.list();
  assert.equal(damaged, []);
  await collectLeftovers(shadows, catalogue);
  const needed = new Set<string>();
  for (const { epoch, round, members } of epochs) {
    needed.add(round);
    for (const { name, shadow: sha256 } of members) {
      const shadow = await openShadow(join(shadows, round, name), sha256);
      if (shadow.base !== undefined) needed.add(shadow.base.manifest.round);
      await verifyShadow(shadow, 'all');
      const ram = await SealedRam.open(shadow);
      const memory = Buffer.alloc(PAGES * PAGE);
      for (let at = 0; at < memory.length; at += PAGE) ram.read(0, at, memory, at);
      ram.close();
      assert.ok(memory.equals(memoryOfEpoch(epoch)), `memory of epoch ${epoch}`);
    }
  }
  const rounds = readdirSync(shadows).filter((name) => name.startsWith('r'));
  assert.equal(rounds.sort(), [...needed].sort(), 'a leftover, or a base that is gone');
  return epochs.map(({ epoch }) => epoch);
}

for (const step of STORE_STEPS) {
  test(`killed at ${step}`, async () => {
    assert.is(workUntil(step), 'SIGKILL', 'the work takes this step');
    const listed = await requireSound();
    assert.ok(listed.length > 0 && listed.length <= EPOCHS);
    // The next process continues from there.
    await takeEpochs(root, () => {});
    assert.equal(await requireSound(), [EPOCHS - 1, EPOCHS]);
  });
}

test.run();
