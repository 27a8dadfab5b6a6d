import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { collectLayers, requireNoLayers } from '../../../../proxy/agent/vms/disk-layers.ts';
import type { UmbraError } from '../../../../proxy/failure/failure.ts';
import { mergeOf } from '../../../../proxy/member/qemu/disks.ts';
import { isLayerOf, layerOver } from '../../../../proxy/protocol/disk-layer.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const OWNER = 'demo.n0';
const test = suite('disk layers');
let folder: string;

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-layers-'));
});
test.after.each(() => rmSync(folder, { recursive: true }));

test('a layer lies beside its disk, and layers over layers do not grow in name', () => {
  const first = layerOver('/vm/disk.raw', OWNER, '00000001');
  assert.is(first, '/vm/disk.raw.umbra-demo.n0-00000001.qcow2');
  assert.is(layerOver(first, OWNER, '00000002'), '/vm/disk.raw.umbra-demo.n0-00000002.qcow2');
  assert.ok(isLayerOf(first, OWNER));
  assert.not.ok(isLayerOf(first, 'demo.n'));
  assert.not.ok(isLayerOf('/vm/disk.raw', OWNER));
  assert.not.ok(isLayerOf('/vm/my.umbra-disk.qcow2', OWNER));
});

test('only Umbra’s layers that no epoch reads are merged, never the user’s files', () => {
  const chain = layers(['d', 'c', 'b', 'a', 'disk.raw']);
  const of = (...needed: string[]) => mergeOf(chain, OWNER, new Set(needed.map(path)));
  assert.equal(of(), { into: path('b'), layer: path('a'), base: path('disk.raw') });
  assert.equal(of('a'), { into: path('c'), layer: path('b'), base: path('a') });
  assert.is(of('a', 'b'), undefined, 'c would have to be merged into what the guest writes to');
  assert.is(mergeOf(layers(['b', 'a', 'disk.raw']), OWNER, new Set()), undefined);
  assert.is(mergeOf(chain, 'demo.n1', new Set()), undefined);
});

test('only layers that neither the VM nor an epoch uses are removed', async () => {
  for (const name of ['a', 'b', 'c', 'd', 'old', 'disk.raw']) writeFileSync(path(name), '');
  const stranger = join(folder, 'disk.raw.umbra-demo.n1-00000001.qcow2');
  writeFileSync(stranger, '');
  const branch = { device: 'vda', layers: layers(['b', 'a', 'disk.raw']) };
  const used = ['d', 'c', 'disk.raw'].map(path);
  assert.equal(await collectLayers(OWNER, used, [branch]), [path('old')]);
  assert.equal((await collectLayers(OWNER, used, [])).sort(), [path('a'), path('b')]);
  assert.equal(readdirSync(folder).length, 4, 'd, c, the disk, and another member’s');
});

test('layers over another disk are not this cluster’s, whatever their names', async () => {
  const other = layerOver(join(folder, 'other.raw'), OWNER, '00000001');
  for (const file of [path('a'), path('disk.raw'), other]) writeFileSync(file, '');
  assert.equal(await collectLayers(OWNER, [path('disk.raw')], []), [path('a')]);
  assert.ok(readdirSync(folder).includes('other.raw.umbra-demo.n0-00000001.qcow2'));
});

test('layers that were merged away are removed, though an epoch lists them', async () => {
  for (const name of ['a', 'b', 'c', 'disk.raw']) writeFileSync(path(name), '');
  const epoch = { device: 'vda', layers: layers(['b', 'a', 'disk.raw']) };
  assert.equal(await collectLayers(OWNER, ['c', 'b', 'disk.raw'].map(path), [epoch]), [path('a')]);
});

test('a VM is not started on a file that has layers, but on one of the layers', async () => {
  for (const name of ['a', 'disk.raw']) writeFileSync(path(name), '');
  const on = (file: string, owner = OWNER) =>
    requireNoLayers(['qemu', '-drive', `file=${file},if=virtio`], folder, owner);
  const refused = await on('disk.raw').catch((error: UmbraError) => error);
  assert.is(refused?.code, 'E_DISK_LAYERED');
  await on(path('a'));
  await on('disk.raw', 'demo.n1');
  await on('other.raw');
});

test('a folder with two names does not make its files removable', async () => {
  writeFileSync(path('a'), '');
  writeFileSync(path('disk.raw'), '');
  symlinkSync(folder, `${folder}-again`);
  try {
    const again = (name: string) => path(name).replace(folder, `${folder}-again`);
    assert.equal(await collectLayers(OWNER, [again('a'), path('disk.raw')], []), []);
  } finally {
    rmSync(`${folder}-again`);
  }
});

function path(name: string): string {
  if (name.endsWith('.raw')) return join(folder, name);
  const id = Buffer.from(name.padEnd(4, '-')).toString('hex');
  return layerOver(join(folder, 'disk.raw'), OWNER, id);
}

function layers(names: readonly string[]) {
  return names.map((name) => ({ path: path(name), format: 'qcow2' }));
}

test.run();
