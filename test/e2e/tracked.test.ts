/**
 * Tracked captures: every epoch after the first holds just what was written, and equals the memory
 * of the stopped VM, byte for byte, while its guest writes as fast as it can.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { ProcessMemory } from '../../proxy/host/process-memory.ts';
import {
  copyDescriptor,
  enableAsync,
  makeUserfaultfdIn,
  userfaultfdsOf,
  watch,
} from '../../proxy/host/userfaultfd.ts';
import { ramBlocks } from '../../proxy/member/qemu/memory.ts';
import { findBlocks } from '../../proxy/member/tracking/blocks.ts';
import type { WatchedBlock } from '../../proxy/member/tracking/ledger.ts';
import { endTracking } from '../../proxy/member/tracking/tracking.ts';
import type { RoundFacts } from '../../proxy/protocol/member.ts';
import { openShadow, SealedRam } from '../../shadow/index.ts';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { dirtyMemory, endMemory } from '../../tools/testbed/dirty.ts';
import { MemberBench } from '../support/member-bench.ts';
import { suite } from '../support/suite.ts';

const MEMORY_MIB = 208;
const PIECE = 2 ** 20;
const PAGE = 4096;
const DISK_BYTES = 16 * 2 ** 20;

const test = suite('tracked captures');
let bench: MemberBench | undefined;

test.after.each(async () => {
  await bench?.dispose();
  bench = undefined;
});

/** Runs a round, reading the VM's memory while it stands. @returns its facts */
async function round(one: MemberBench, name: string, parent?: string): Promise<RoundFacts> {
  one.parent = parent;
  await one.live(name);
  one.tell('stop');
  await one.report('drained');
  const blocks = await findBlocks(one.monitor, one.vm.process, await ramBlocks(one.monitor));
  const memory = new Memory(one, blocks);
  one.tell('barrier');
  const facts = await one.report('sealed');
  one.tell('commit');
  await memory.requireShadow(one.shadowDirectory(name), name);
  return facts;
}

/** Memory of a stopped VM, block by block. */
class Memory {
  readonly #blocks = new Map<string, Buffer>();

  constructor({ vm }: MemberBench, blocks: readonly WatchedBlock[]) {
    const memory = new ProcessMemory(vm.process);
    for (const { idstr, address, bytes } of blocks) {
      if (address === undefined) continue;
      const content = Buffer.alloc(bytes);
      for (let at = 0; at < bytes; at += PIECE) {
        memory.read(address + BigInt(at), content.subarray(at, Math.min(bytes, at + PIECE)));
      }
      this.#blocks.set(idstr, content);
    }
    memory.close();
  }

  /** Requires that a shadow is this memory. */
  async requireShadow(directory: string, round: string): Promise<void> {
    const shadow = await openShadow(directory);
    const ram = await SealedRam.open(shadow);
    let compared = 0;
    try {
      for (const [block, { idstr, bytes }] of shadow.manifest.blocks.entries()) {
        const real = this.#blocks.get(idstr);
        if (real === undefined) continue;
        const page = Buffer.alloc(PAGE);
        for (let offset = 0; offset < bytes; offset += PAGE) {
          if (!ram.read(block, offset, page, 0)) page.fill(0);
          if (page.compare(real, offset, offset + PAGE) === 0) continue;
          throw new Error(`${round}: ${idstr} differs at ${offset}`);
        }
        compared += bytes;
      }
    } finally {
      ram.close();
    }
    assert.ok(compared >= MEMORY_MIB * 2 ** 20, `${compared} bytes were compared`);
  }
}

/** Rounds of each test here; a longer run is asked for by $UMBRA_TRACKED_ROUNDS. */
const ROUNDS = Number(process.env.UMBRA_TRACKED_ROUNDS ?? 4);
const MEMFD = `memory-backend-memfd,id=mem,size=${MEMORY_MIB}M,share=on`;

interface Shape {
  readonly name: string;
  /** Further words of QEMU's command line; a disk in the folder that `{dir}` stands for. */
  readonly more?: readonly string[];
  /** Command that is started in the guest before the rounds. */
  readonly besides?: string;
}

const SHAPES: readonly Shape[] = [
  { name: 'anonymous memory' },
  { name: 'two processors', more: ['-smp', '2'] },
  { name: 'shared memory', more: ['-object', MEMFD, '-machine', 'memory-backend=mem'] },
  {
    name: 'a disk past the kernel’s cache',
    more: ['-drive', 'file={dir}/disk.raw,if=virtio,format=raw,cache=none,aio=threads'],
    besides:
      'while true; do echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k; done' +
      ' >/dev/null 2>&1 &',
  },
];

for (const [at, qemu] of (await findQemus()).entries()) {
  // Every shape on one QEMU, the first on the others; $UMBRA_SHAPES=all: all on each.
  const shapes = at === 0 || process.env.UMBRA_SHAPES === 'all' ? SHAPES : SHAPES.slice(0, 1);
  for (const { name, more = [], besides } of shapes) {
    test(`QEMU ${qemu.version}, ${name}: every epoch is the VM’s memory`, async () => {
      const disks = mkdtempSync(join(tmpdir(), 'umbra-tracked-'));
      try {
        writeFileSync(join(disks, 'disk.raw'), randomBytes(DISK_BYTES));
        const words = more.map((word) => word.replace('{dir}', disks));
        bench = await MemberBench.boot(qemu, MEMORY_MIB, words);
        bench.capture = ['tracked', 'stop-copy'];
        if (besides !== undefined) await bench.guest.run(besides);
        await bench.guest.run(dirtyMemory({ sizeMiB: 48, pattern: 'random' }));
        assert.is((await round(bench, 'r0')).capture, 'stop-copy');
        for (let number = 1; number <= ROUNDS; number++) {
          const facts = await round(bench, `r${number}`, `r${number - 1}`);
          assert.is(facts.capture, 'tracked', facts.captureReason);
          assert.ok((facts.storedBytes ?? 0) < MEMORY_MIB * 2 ** 20, 'it holds what was written');
        }
        const end = await bench.guest.run(endMemory());
        assert.match(end.output, /verified/, 'the guest’s own check');
      } finally {
        rmSync(disks, { recursive: true, force: true });
      }
    });
  }
}

const [qemu] = await findQemus();

test('what a failed round has cleared is in the next epoch', async () => {
  bench = await MemberBench.boot(qemu as QemuBinary, MEMORY_MIB);
  bench.capture = ['tracked', 'stop-copy'];
  await bench.guest.run(dirtyMemory({ sizeMiB: 48, pattern: 'random' }));
  await round(bench, 'r0');
  bench.parent = 'r0';
  for (const stage of ['live', 'drained'] as const) {
    await bench.live(`failed-${stage}`);
    if (stage === 'drained') {
      bench.tell('stop');
      await bench.report('drained');
    }
    bench.tell('abort');
    await bench.report('aborted');
  }
  await bench.guest.run(endMemory()); // what the failed rounds have read is not written again
  assert.is((await round(bench, 'r1', 'r0')).capture, 'tracked');
});

test('an epoch that is not the last one known is not built upon: a base follows', async () => {
  bench = await MemberBench.boot(qemu as QemuBinary, MEMORY_MIB);
  bench.capture = ['tracked', 'stop-copy'];
  await round(bench, 'r0');
  await round(bench, 'r1', 'r0');
  const facts = await round(bench, 'r2', 'r0'); // r1 was removed
  assert.is(facts.capture, 'stop-copy');
  assert.match(facts.captureReason ?? '', /not known/);
  assert.is((await round(bench, 'r3', 'r2')).capture, 'tracked');
});

test('a VM that is let go of is as it was, and is tracked anew', async () => {
  bench = await MemberBench.boot(qemu as QemuBinary, MEMORY_MIB);
  bench.capture = ['tracked', 'stop-copy'];
  await round(bench, 'r0');
  const vm = bench.vm.process;
  const about = { vm, directory: bench.directory, member: 'n0' };
  assert.ok(endTracking(about));
  assert.not(endTracking(about));
  assert.equal(userfaultfdsOf(vm.pid), []);
  const capabilities = [{ capability: 'background-snapshot', state: true }];
  await bench.monitor.execute('migrate-set-capabilities', { capabilities });
  const off = [{ capability: 'background-snapshot', state: false }];
  await bench.monitor.execute('migrate-set-capabilities', { capabilities: off });
  assert.is((await round(bench, 'r1', 'r0')).capture, 'stop-copy');
  assert.is((await round(bench, 'r2', 'r1')).capture, 'tracked');
});

test('memory that another watches is not tracked, and nothing is left in QEMU', async () => {
  bench = await MemberBench.boot(qemu as QemuBinary, MEMORY_MIB);
  bench.capture = ['tracked', 'stop-copy'];
  const vm = bench.vm.process;
  const blocks = await findBlocks(bench.monitor, vm, await ramBlocks(bench.monitor));
  const { address = 0n, bytes = 0 } = blocks.find(({ memory }) => memory === 'anonymous') ?? {};
  const copy = copyDescriptor(vm.pid, makeUserfaultfdIn(vm));
  enableAsync(copy);
  assert.is(watch(copy, { start: address, length: BigInt(bytes) }), 0);
  const before = userfaultfdsOf(vm.pid);
  const facts = await round(bench, 'r0');
  closeSync(copy);
  assert.is(facts.capture, 'stop-copy');
  assert.match(facts.notTracked ?? '', /watched by another/);
  assert.equal(userfaultfdsOf(vm.pid), before);
});

test.run();
