/** Compares memories that are arrays: pages that QEMU's dirty log has missed are written again. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startTimeOf, thisProcess } from '../../../../proxy/host/known-process.ts';
import { ProcessMemory } from '../../../../proxy/host/process-memory.ts';
import type { StreamedMemory } from '../../../../proxy/intake/shadow-sink.ts';
import { rewriteMissed } from '../../../../proxy/member/capture/compare-memory.ts';
import { precopyObstacle } from '../../../../proxy/member/capture/precopy-support.ts';
import type { QmpClient } from '../../../../qmp/index.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const RAM = 0x7f00_0000_0000n;
const ROM = 0x7f10_0000_0000n;

/** A VM of two blocks, and what it has streamed of them. */
class Bench implements StreamedMemory {
  readonly streamedBlocks = [
    { idstr: 'rom', usedLength: 3 * PAGE, pageSize: PAGE },
    { idstr: 'pc.ram', usedLength: 40 * MIB, pageSize: PAGE },
  ];
  readonly blocks = [
    { idstr: 'pc.ram', length: 40 * MIB, address: RAM },
    { idstr: 'not streamed', length: PAGE, address: 0n },
    { idstr: 'rom', length: 3 * PAGE, address: ROM },
  ];
  readonly vm = this.streamedBlocks.map(({ usedLength }) => Buffer.alloc(usedLength, 'vm'));
  readonly shadow = this.vm.map((memory) => Buffer.from(memory));
  readonly zeroed: string[] = [];

  read(address: bigint, into: Uint8Array): void {
    const [block, start] = address >= ROM ? [0, ROM] : [1, RAM];
    this.vm[block]?.copy(into, 0, Number(address - start));
  }

  load(block: number, offset: number, into: Uint8Array): void {
    this.shadow[block]?.copy(into, 0, offset);
  }

  page(block: number, offset: number, chunk: Uint8Array, at: number): void {
    this.shadow[block]?.set(chunk.subarray(at, at + PAGE), offset);
  }

  zero(block: number, offset: number): void {
    this.zeroed.push(`${block}:${offset}`);
    this.shadow[block]?.fill(0, offset, offset + PAGE);
  }

  mend(throwIfOver = () => {}): Promise<number> {
    return rewriteMissed(this, this.blocks, this, throwIfOver);
  }
}

const test = suite('dirty log');

test('if no page was missed, nothing is written', async () => {
  const bench = new Bench();
  bench.page = bench.zero = () => assert.unreachable();
  assert.is(await bench.mend(), 0);
});

test('every page that differs is repaired, and no other', async () => {
  const bench = new Bench();
  bench.vm[0]?.fill(1, 2 * PAGE + 7, 2 * PAGE + 8); // one byte, in the last page of a short block
  bench.vm[1]?.fill(0, 0, PAGE);
  bench.vm[1]?.fill(2, 17 * MIB - 1, 17 * MIB + 1); // over the border of two pieces
  bench.vm[1]?.fill(3, 40 * MIB - 1);
  assert.is(await bench.mend(), 5);
  assert.equal(bench.shadow, bench.vm);
  assert.equal(bench.zeroed, ['1:0'], 'a page of zeros takes no memory');
  assert.is(await bench.mend(), 0);
});

test('the comparison ends when the round is over', async () => {
  const bench = new Bench();
  let looks = 0;
  const over = new Error('over');
  const throwIfOver = () => {
    if (++looks === 2) throw over;
  };
  bench.vm[1]?.fill(3, 40 * MIB - 1);
  const error = await bench.mend(throwIfOver).then(
    () => undefined,
    (failed: unknown) => failed,
  );
  assert.is(error, over);
  assert.is.not(bench.shadow[1]?.at(-1), 3);
});

for (const [what, blocks] of [
  ['a block that QEMU does not list', []],
  ['a block without an address', [{ idstr: 'rom', length: 3 * PAGE }]],
] as const) {
  test(`${what} is not passed over`, async () => {
    const bench = new Bench();
    const error = await rewriteMissed(bench, blocks, bench, () => {}).catch((failed) => failed);
    assert.is(error.code, 'E_VM_MEMORY');
    assert.match(error.message, /rom.*does not tell where/);
  });
}

test('memory of another process is read at its addresses; an unmapped one is an error', () => {
  const memory = new ProcessMemory(thisProcess());
  const known = Buffer.alloc(PAGE, 'known');
  const read = Buffer.alloc(PAGE);
  memory.read(BigInt(koffi.address(known)), read);
  assert.equal(read, known);
  assert.throws(() => memory.read(16n, read));
  memory.close();
  memory.close();
  assert.throws(() => memory.read(BigInt(koffi.address(known)), read), /closed/);
});

test('memory of a process that has ended since is not read', async () => {
  const child = spawn('cat', { stdio: ['pipe', 'pipe', 'ignore'] });
  const { pid = 0 } = child;
  child.stdin.write('it runs');
  await once(child.stdout, 'data'); // only now it has the memory of `cat`
  const memory = new ProcessMemory({ pid, startTime: startTimeOf(pid) ?? '' });
  const stack = /^([0-9a-f]+)-.*\[stack\]$/m.exec(readFileSync(`/proc/${pid}/maps`, 'utf8'));
  const top = BigInt(`0x${stack?.[1]}`);
  const read = Buffer.alloc(PAGE);
  memory.read(top, read);
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  assert.throws(() => memory.read(top, read), /0 of 4096 bytes/);
  memory.close();
});

test('an ended process, or a new one with its pid, is not read', () => {
  const { pid, startTime } = thisProcess();
  assert.throws(() => new ProcessMemory({ pid, startTime: `${startTime}0` }), /is gone/);
  assert.throws(() => new ProcessMemory({ pid: 2 ** 22 + 1, startTime }), /ENOENT/);
});

function monitor(major: number, enabled: boolean): QmpClient {
  const version = { major, minor: 0, micro: 0 };
  return { version, execute: async () => ({ enabled, present: true }) } as unknown as QmpClient;
}

test('precopy is refused under emulation if memory cannot be compared', async () => {
  const readable = { vm: thisProcess(), compareEmulated: true };
  const unknown = { vm: undefined, compareEmulated: true };
  assert.is(await precopyObstacle(monitor(10, false), readable), undefined);
  assert.match(
    (await precopyObstacle(monitor(10, false), unknown)) ?? '',
    /not known which process/,
  );
  const trusted = { vm: undefined, compareEmulated: false };
  assert.is(await precopyObstacle(monitor(10, false), trusted), undefined, 'as was wished');
  for (const options of [readable, trusted]) {
    assert.match((await precopyObstacle(monitor(8, false), options)) ?? '', /fixed in 9.0/);
  }
  assert.is(
    await precopyObstacle(monitor(7, true), unknown),
    undefined,
    'KVM has a log of its own',
  );
});

test.run();
