/**
 * The oracle: a member's shadow equals the memory of its stopped VM (`pmemsave`), byte for byte,
 * while a guest program dirties memory as fast as it can. The first shadow is whole, the others are
 * deltas of it.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ramBlocks } from '../../proxy/member/qemu/memory.ts';
import { openShadow, SealedRam } from '../../shadow/index.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { dirtyMemory, endMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { MemberBench } from '../support/member-bench.ts';

const MEMORY_MIB = 256;
const PAGE = 4096;
/**
 * End of low RAM, which lies at its physical addresses; ROMs and video memory follow up to 1 MiB.
 */
const LOW_RAM_END = 0xa0000;
const HIGH_RAM = 0x100000;

const PATTERNS = ['random', 'sequential', 'burst'] as const;
/** XBZRLE off and on; with it, pages are sent as differences to the shadow's content. */
const XBZRLE = [false, true] as const;

const test = suite('oracle');
let bench: MemberBench | undefined;

test.after.each(async () => {
  await bench?.dispose();
  bench = undefined;
});

for (const qemu of await findQemus()) {
  test(`QEMU ${qemu.version}: at full dirty rate, the shadow is the VM’s memory`, async () => {
    bench = await MemberBench.boot(qemu, MEMORY_MIB);
    let first: string | undefined;
    for (const [pattern, xbzrle] of PATTERNS.flatMap((one) =>
      XBZRLE.map((state) => [one, state] as const),
    )) {
      const capabilities = [{ capability: 'xbzrle', state: xbzrle }];
      await bench.monitor.execute('migrate-set-capabilities', { capabilities });
      await bench.guest.run(dirtyMemory({ sizeMiB: 64, pattern }));
      await bench.live(`${pattern}-${xbzrle}`);
      await bench.pass(2);
      bench.tell('stop');
      const { missedPages = 0 } = await bench.report('drained');
      assert.is(missedPages, 0, 'the stream alone is the memory');
      const dump = join(bench.directory, 'memory.bin');
      await bench.monitor.execute('pmemsave', {
        val: 0,
        size: MEMORY_MIB * 2 ** 20,
        filename: dump,
      });
      bench.tell('barrier');
      await bench.report('sealed');
      bench.tell('commit');

      const round = `${pattern}-${xbzrle}`;
      const { manifest } = await openShadow(bench.shadowDirectory(round));
      const ram = manifest.blocks.find(({ idstr }) => idstr === 'pc.ram');
      assert.is(ram?.kind, first === undefined ? 'full' : 'delta');
      const memory = readFileSync(dump);
      const shadow = await memoryOf(bench.shadowDirectory(round), memory.length);
      assert.equal(differences(shadow, memory), [], `${pattern}, xbzrle ${xbzrle}`);
      if (first !== undefined) rmSync(bench.shadowDirectory(round), { recursive: true });
      first ??= round;
      bench.base = first;
      rmSync(dump);

      const end = await bench.guest.run(endMemory());
      assert.match(end.output, /verified/, 'the guest’s own check');
      assert.is(end.exitCode, 0, end.output);
    }
  });
}

test('a page that QEMU’s log misses is taken from the memory of an emulated VM', async () => {
  const qemu = await newestQemu();
  if (qemu === undefined) throw new Error('there is no QEMU');
  bench = await MemberBench.boot(qemu, MEMORY_MIB);
  for (const compared of [false, true]) {
    bench.compareEmulated = compared;
    const round = `compared-${compared}`;
    await bench.live(round);
    await bench.pass(2);
    const at = await writeBehindLog(bench);
    bench.tell('stop');
    const { missedPages } = await bench.report('drained');
    bench.tell('barrier');
    await bench.report('sealed');
    bench.tell('commit');
    assert.is(missedPages, compared ? 1 : undefined);
    const memory = await memoryOf(bench.shadowDirectory(round), MEMORY_MIB * 2 ** 20);
    const isThere = memory.toString('latin1', at, at + PAGE).startsWith('behind');
    assert.is(isThere, compared, 'without comparing it is lost: the log knows nothing of it');
  }
});

async function memoryOf(directory: string, bytes: number): Promise<Buffer> {
  const shadow = await openShadow(directory);
  const block = shadow.manifest.blocks.findIndex(({ idstr }) => idstr === 'pc.ram');
  const ram = await SealedRam.open(shadow);
  const memory = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += PAGE) ram.read(block, at, memory, at);
  ram.close();
  return memory;
}

/**
 * Writes a page into QEMU's memory from outside, so that QEMU's dirty log misses it.
 * @returns the page's guest-physical address
 */
async function writeBehindLog(of: MemberBench): Promise<number> {
  const dump = join(of.directory, 'before.bin');
  const filename = dump;
  await of.monitor.execute('pmemsave', { val: 0, size: MEMORY_MIB * 2 ** 20, filename });
  const memory = readFileSync(dump);
  rmSync(dump);
  // In the middle of an unused MiB.
  const zeros = Buffer.alloc(2 ** 20);
  let at = memory.length;
  do at -= zeros.length;
  while (at > 0 && !zeros.equals(memory.subarray(at, at + zeros.length)));
  at += zeros.length / 2;
  const ram = (await ramBlocks(of.monitor)).find(({ idstr }) => idstr === 'pc.ram');
  const fd = openSync(`/proc/${of.vm.process.pid}/mem`, 'r+');
  writeSync(fd, Buffer.alloc(PAGE, 'behind'), 0, PAGE, Number(ram?.address) + at);
  closeSync(fd);
  return at;
}

/** Lists pages of RAM that differ, as hexadecimal addresses; the first ten only. */
function differences(shadow: Buffer, memory: Buffer): string[] {
  assert.is(shadow.length, memory.length);
  const found: string[] = [];
  for (let at = 0; at < memory.length && found.length < 10; at += PAGE) {
    if (at >= LOW_RAM_END && at < HIGH_RAM) continue;
    if (shadow.compare(memory, at, at + PAGE, at, at + PAGE) !== 0) found.push(at.toString(16));
  }
  return found;
}

test.run();
