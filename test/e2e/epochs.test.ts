/**
 * Several epochs of one cluster, stored as deltas. Each can be restored unchanged, repeatedly and
 * in any order. Folding puts a new base under them. Damage to a shared base is found, and the epoch
 * that is offered instead is undamaged.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { Catalogue, openShadow, type SealedShadow } from '../../shadow/index.ts';
import { verifyMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

const NODES = 2;
const KEEP = 3;
const FOLD_LIMIT_MS = 600_000;

const test = suite('epochs');
let bed: Testbed;
/** Nonce in the guests' memory when an epoch was taken, by the epoch's number. */
const nonces = new Map<number, string>();

test.before(async () => {
  bed = await Testbed.create({ nodes: NODES, qemu: await newestQemu() });
  await bed.up();
  await bed.reconfigure({ epochs: { keep: KEEP } });
  await bed.dirty(1, { sizeMiB: 32, rateMiB: 20 });
});
test.after(() => bed.dispose());

async function take(nonce: string): Promise<RoundReport> {
  for (let node = 0; node < NODES; node++)
    await bed.shell(node, `echo ${nonce}-${node} >/run/nonce`);
  const report = await bed.json<RoundReport>('checkpoint');
  assert.is(report.outcome, 'committed');
  nonces.set(report.epoch ?? 0, nonce);
  return report;
}

async function restoreAndLook(epoch: number, mode: 'map' | 'stream'): Promise<void> {
  bed.hangUp();
  const args = ['restore', String(epoch), '--mode', mode, '--replace'];
  const { members } = await bed.json<RestoreReport>(...args);
  assert.ok(members.every((member) => member.mode === mode));
  for (let node = 0; node < NODES; node++) {
    assert.is((await bed.shell(node, 'cat /run/nonce')).trim(), `${nonces.get(epoch)}-${node}`);
  }
  assert.match(await bed.shell(1, verifyMemory()), /verified/, `epoch ${epoch} by ${mode}`);
}

async function shadowsOf(epoch: number): Promise<SealedShadow[]> {
  const catalogue = new Catalogue(join(bed.directory, 'epochs'), 'demo');
  const { round, members } = await catalogue.read(epoch);
  return Promise.all(
    members.map(({ name, shadow }) => {
      return openShadow(join(bed.directory, 'shadows', round, name), shadow);
    }),
  );
}

test('later epochs are deltas of the first, as large as the changes', async () => {
  const first = await take('one');
  assert.ok(first.members.every(({ stored }) => stored === 'full'));
  for (const nonce of ['two', 'three']) {
    const later = await take(nonce);
    assert.ok(later.members.every(({ stored }) => stored === 'delta'));
    assert.ok(later.storedBytes < first.storedBytes);
  }
});

test('three epochs are restored repeatedly in any order, by map and by stream', async () => {
  for (const epoch of [2, 1, 3, 1, 2]) await restoreAndLook(epoch, 'map');
  for (const epoch of [3, 1]) await restoreAndLook(epoch, 'stream');
});

test('the base of kept epochs outlives its own epoch', async () => {
  await take('four');
  assert.not((await epochsThere()).includes(1));
  await restoreAndLook(2, 'map');
  await restoreAndLook(4, 'map');
});

test('an epoch that differs much is folded in the background, its content unchanged', async () => {
  await bed.reconfigure({ epochs: { keep: KEEP }, store: { foldAt: 0.01 } });
  const { epoch = 0 } = await take('five');
  for (const end = performance.now() + FOLD_LIMIT_MS; ; ) {
    if ((await shadowsOf(epoch)).every(({ base }) => base === undefined)) break;
    if (performance.now() > end) throw new Error(`epoch ${epoch} was not folded`);
    await bed.json('status');
  }
  await restoreAndLook(epoch, 'map');
  await restoreAndLook(epoch - 1, 'map'); // still a delta of the old base
  const later = await take('six');
  assert.ok(later.members.every(({ stored }) => stored === 'delta'));
  await restoreAndLook(epoch + 1, 'map');
});

test('damage to a base is found at restore; the epoch offered has another base', async () => {
  await bed.reconfigure({ epochs: { keep: KEEP }, store: { foldAt: 100 } });
  const epochs = await epochsThere();
  const newest = epochs.at(-1) ?? 0;
  const [shadow] = await shadowsOf(newest);
  const base = shadow?.base ?? shadow;
  if (base === undefined) throw new Error('no shadow');
  const sound: number[] = [];
  for (const epoch of epochs) {
    const sharing = (await shadowsOf(epoch)).some(
      (one) => (one.base ?? one).sha256 === base.sha256,
    );
    if (!sharing) sound.push(epoch);
  }
  const ram = base.manifest.blocks.find(({ idstr }) => idstr === 'pc.ram');
  bed.killAll(); // VMs may have the image mapped
  flipABit(join(base.directory, ram?.file ?? ''));
  const { code, stdout } = await bed.umbra('restore', '--json');
  assert.is(code, 1);
  const { failure } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure };
  assert.is(failure.code, 'E_EPOCH_CORRUPT');
  const offered = sound.at(-1);
  if (offered === undefined) assert.match(failure.hint ?? '', /no other epoch/);
  else assert.match(failure.hint ?? '', `umbra restore ${offered}`);
  if (offered !== undefined) await restoreAndLook(offered, 'map');
  const after = await take('seven');
  assert.ok(
    after.members.some(({ stored }) => stored === 'full'),
    'never against what has rotted',
  );
  await restoreAndLook(after.epoch ?? 0, 'map');
});

async function epochsThere(): Promise<number[]> {
  const { epochs } = await bed.json<{ epochs: { epoch: number }[] }>('epochs');
  return epochs.map(({ epoch }) => epoch);
}

function flipABit(path: string): void {
  const bytes = readFileSync(path);
  const at = bytes.findIndex((byte) => byte !== 0);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

test.run();
