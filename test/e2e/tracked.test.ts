/**
 * Tracked captures: every epoch after the first holds just what was written, and equals the memory
 * of the stopped VM, byte for byte, while its guest writes as fast as it can.
 */
import * as assert from 'uvu/assert';
import { ProcessMemory } from '../../proxy/host/process-memory.ts';
import { ramBlocks } from '../../proxy/member/qemu/memory.ts';
import { findBlocks } from '../../proxy/member/tracking/blocks.ts';
import type { WatchedBlock } from '../../proxy/member/tracking/ledger.ts';
import type { RoundFacts } from '../../proxy/protocol/member.ts';
import { openShadow, SealedRam } from '../../shadow/index.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { dirtyMemory, endMemory } from '../../tools/testbed/dirty.ts';
import { MemberBench } from '../support/member-bench.ts';
import { suite } from '../support/suite.ts';

const MEMORY_MIB = 208;
const PIECE = 2 ** 20;
const PAGE = 4096;

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

const ROUNDS = Number(process.env.UMBRA_TRACKED_ROUNDS ?? 12);

for (const qemu of await findQemus()) {
  test(`QEMU ${qemu.version}: every epoch is the VM’s memory, byte for byte`, async () => {
    bench = await MemberBench.boot(qemu, MEMORY_MIB);
    bench.capture = ['tracked', 'stop-copy'];
    await bench.guest.run(dirtyMemory({ sizeMiB: 48, pattern: 'random' }));
    const base = await round(bench, 'r000');
    assert.is(base.capture, 'stop-copy', JSON.stringify(base));
    assert.is(base.notTracked, undefined);
    for (let number = 1; number <= ROUNDS; number++) {
      const name = `r${String(number).padStart(3, '0')}`;
      const last = `r${String(number - 1).padStart(3, '0')}`;
      const facts = await round(bench, name, last);
      assert.is(facts.capture, 'tracked', JSON.stringify(facts));
    }
    const end = await bench.guest.run(endMemory());
    assert.match(end.output, /verified/, 'the guest’s own check');
  });
}

test.run();
