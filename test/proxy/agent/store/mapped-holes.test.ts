import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import {
  fillMappedHoles,
  mappedHoles,
  mappedImages,
  reclaimMappedHoles,
} from '../../../../proxy/agent/store/mapped-holes.ts';
import { RoundsInUse } from '../../../../proxy/agent/store/rounds-in-use.ts';
import { parseMaps } from '../../../../proxy/host/proc-maps.ts';
import { openShadow } from '../../../../shadow/index.ts';
import { roundOf, sealEpoch } from '../../../shadow/durable/sealed-epoch.ts';
import { type Bundled, bundled } from '../../../support/bundled.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const MAPPING = fileURLToPath(new URL('../../../support/mapping-process.ts', import.meta.url));

const test = suite('mapped holes');
let root = '';
let processes: ChildProcess[] = [];
let held: RoundsInUse;
let program: Bundled;

test.before(async () => {
  program = await bundled(MAPPING);
});
test.after(() => program.remove());

test.before.each(() => {
  held = new RoundsInUse();
  root = mkdtempSync(join(scratchFolder(), 'umbra-holes-'));
});
test.after.each(async () => {
  await Promise.all(processes.map(end));
  processes = [];
  rmSync(root, { recursive: true, force: true });
});

/** Seals a shadow and returns its images, by RAM block. */
async function images(): Promise<{ readonly ram: string; readonly vram: string }> {
  const { round } = await sealEpoch(root, 1, ['a']);
  const { directory, manifest } = await openShadow(join(root, round, 'a'));
  const imageOf = (name: string) => {
    return join(directory, manifest.blocks.find(({ idstr }) => idstr === name)?.file ?? '');
  };
  return { ram: imageOf('pc.ram'), vram: imageOf('vga.vram') };
}

const isHeld = (round: string) => held.has(round);

/** Starts a process that has mapped an image and read all of it: holes have become memory. */
async function mapping(path: string): Promise<ChildProcess> {
  const child = fork(program.path, [path], { execArgv: [] });
  processes.push(child);
  const [message] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
  assert.is(message, 'mapped');
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

function pidOf({ pid = 0 }: ChildProcess): number {
  return pid;
}

function occupiedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

const MAPS = [
  '55d0c0000000-55d0c0200000 r-xp 00000000 fe:01 1234 /usr/bin/qemu-system-x86_64',
  '7fde17fff000-7fde37fff000 rw-p 00000000 00:1b 756305 /dev/shm/demo/shadows/r1/n0/ram-0.img',
  '7fdf17fff000-7fdf18fff000 rw-p 00000000 00:1b 756306 /dev/shm/a b/n0/ram-12.img (deleted)',
  '7fe0e0000000-7fe0e0800000 rw-s 00000000 00:1b 756307 /dev/shm/demo/ram-0.img',
  '7fe1e0000000-7fe1e0800000 rw-p 00000000 00:1b 756308 /dev/shm/demo/memory',
  '7fe203e00000-7fe223e00000 rw-p 00000000 00:00 0 ',
].join('\n');

test('images are known by their names, mapped privately, removed or not', () => {
  assert.equal(mappedImages(parseMaps(MAPS)), [
    {
      path: '/dev/shm/demo/shadows/r1/n0/ram-0.img',
      range: '7fde17fff000-7fde37fff000',
      inode: '00:1b 756305',
      bytes: 2 ** 29,
      removed: false,
    },
    {
      path: '/dev/shm/a b/n0/ram-12.img',
      range: '7fdf17fff000-7fdf18fff000',
      inode: '00:1b 756306',
      bytes: 2 ** 24,
      removed: true,
    },
  ]);
});

test('a process without any, or that has ended, takes nothing', () => {
  assert.is(mappedHoles([process.pid, 2 ** 22 + 1]), 0);
});

test('pages that a VM has made of holes are counted, and freed while it runs', async () => {
  const { ram } = await images();
  const sealed = occupiedBytes(ram);
  const vm = await mapping(ram);
  const { size } = statSync(ram);
  assert.is(occupiedBytes(ram), size, 'reading has filled the holes');
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), size - sealed);
  assert.is(occupiedBytes(ram), sealed);
  assert.is(mappedHoles([pidOf(vm)]), size - sealed);
});

test('not while another process has the image mapped, but as soon as that has ended', async () => {
  const { ram } = await images();
  const sealed = occupiedBytes(ram);
  const [vm, other] = [await mapping(ram), await mapping(ram)];
  const { size } = statSync(ram);
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), 0);
  assert.is(occupiedBytes(ram), size);
  await end(other);
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), size - sealed);
});

test('nor while another has mapped another image of that shadow', async () => {
  const { ram, vram } = await images();
  const [vm] = [await mapping(ram), await mapping(vram)];
  const filled = occupiedBytes(vram);
  assert.is(filled, statSync(vram).size);
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), 0);
  assert.is(occupiedBytes(vram), filled);
});

test('nor while its round is held to be brought to disk, but as soon as that is over', async () => {
  const { ram } = await images();
  const sealed = occupiedBytes(ram);
  const vm = await mapping(ram);
  const before = statSync(ram, { bigint: true });
  held.hold(roundOf(1));
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), 0);
  assert.is(statSync(ram, { bigint: true }).ctimeNs, before.ctimeNs, 'it was not touched');
  held.release(roundOf(1));
  assert.is(await reclaimMappedHoles([pidOf(vm)], isHeld), Number(before.size) - sealed);
});

test('holes are filled before they are read, and the image counts as untouched', async () => {
  const { ram } = await images();
  const vm = await mapping(ram);
  await reclaimMappedHoles([pidOf(vm)], isHeld);
  const { size, ctimeMs } = statSync(ram);
  assert.ok(occupiedBytes(ram) < size);
  await fillMappedHoles([pidOf(vm), pidOf(vm), 2 ** 22 + 1]);
  assert.is(occupiedBytes(ram), size);
  assert.is(mappedHoles([pidOf(vm)]), 0);
  assert.is(statSync(ram).ctimeMs, ctimeMs);
});

test('so are holes of an image that was removed since', async () => {
  const { ram } = await images();
  const vm = await mapping(ram);
  await reclaimMappedHoles([pidOf(vm)], isHeld);
  rmSync(ram);
  assert.ok(mappedHoles([pidOf(vm)]) > 0);
  await fillMappedHoles([pidOf(vm)]);
  assert.is(mappedHoles([pidOf(vm)]), 0);
});

test.run();
