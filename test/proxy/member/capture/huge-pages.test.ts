import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import { startTimeOf, thisProcess } from '../../../../proxy/host/known-process.ts';
import { parseMaps } from '../../../../proxy/host/proc-maps.ts';
import {
  addressOf,
  anonymousRanges,
  floors,
  hugePages,
  kindOf,
} from '../../../../proxy/member/capture/huge-page-policy.ts';
import { joinHugePages } from '../../../../proxy/member/capture/huge-pages.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { splitMemory } from '../../../support/split-memory.ts';

const test = suite('huge pages');
const HUGE_BYTES = 2 ** 21;

const MAPS = [
  '55d0c0000000-55d0c0200000 r-xp 00000000 fe:01 1234           /usr/bin/qemu-system-x86_64',
  '7fde17fff000-7fde37fff000 rw-p 00000000 00:1b 756305         /dev/shm/demo/ram-0.img',
  '7fe1e0000000-7fe1e0800000 rw-s 00000000 00:01 5              /memfd:shared (deleted)',
  '7fe200000000-7fe200c00000 rw-p 00000000 00:00 0 ',
  '7fe203e00000-7fe223e00000 rw-p 00000000 00:00 0 ',
  '7fe223e00000-7fe223e01000 ---p 00000000 00:00 0 ',
].join('\n');

test('huge pages begin at aligned addresses, wherever the block begins', () => {
  const of = (address: bigint, length: number) => [...hugePages({ address, length }, HUGE_BYTES)];
  const start = 0x7fe200000000n;
  const next = start + BigInt(HUGE_BYTES);
  assert.equal(of(start, 2 * HUGE_BYTES), [start, next]);
  assert.equal(of(start - 4096n, 2 * HUGE_BYTES), [start]);
  assert.equal(of(start + 4096n, HUGE_BYTES), []);
});

test('a huge page is used if the VM has half of it: joining at most doubles its memory', () => {
  const kinds = [0, 256, 257, 512].map((pages) => kindOf(pages * 4096, HUGE_BYTES));
  assert.equal(kinds, ['used', 'used', 'unused', 'unused']);
});

test('pages that were only read, or given back, do not count as a process’s memory', () => {
  const memory = splitMemory(4);
  memory.write(0, 512);
  memory.write(1, 300);
  memory.read(2);
  memory.write(3, 512);
  memory.giveBack(3);
  assert.equal(memory.absentPages(), [0, 212, 512, 512]);
});

test('memory that the VM has is joined, even where no room is left', async () => {
  const memory = splitMemory(4);
  memory.write(0, 512);
  memory.read(1);
  memory.write(2, 511);
  memory.write(3, 1);
  const none = { directory: scratchFolder(), keepFreeBytes: 2 ** 50 };
  const plenty = { directory: scratchFolder(), keepFreeBytes: 0 };
  const join = async (which: 'auto' | 'used' | 'all', room: typeof none) => {
    const { joinedBytes, noRoomBytes, refusedBytes } = await joinHugePages(
      { vm: thisProcess(), which, hasBalloon: false, blocks: [memory.block], room },
      new AbortController().signal,
    );
    assert.is(refusedBytes, 0);
    return [joinedBytes / HUGE_BYTES, noRoomBytes / HUGE_BYTES];
  };
  assert.equal(await join('auto', none), [1, 3]);
  assert.equal(memory.absentPages(), [0, 512, 1, 511]);
  assert.equal(await join('used', plenty), [2, 0]);
  assert.equal(memory.absentPages(), [0, 512, 0, 511]);
  assert.equal(await join('all', plenty), [4, 0]);
  assert.equal(memory.absentPages(), [0, 0, 0, 0]);
});

test('unused memory takes no room that another round needs, nor scarce memory', () => {
  const room = { directory: '/dev/shm', keepFreeBytes: 10 };
  const of = (which: 'auto' | 'used' | 'all', hasBalloon = false) => {
    return floors({ which, hasBalloon, room }, 400);
  };
  assert.equal(of('used'), { used: 10, unused: undefined });
  assert.equal(of('all'), { used: 10, unused: 10 });
  assert.equal(of('auto'), { used: 10, unused: 60 });
  assert.equal(of('auto', true), { used: 10, unused: undefined }, 'a balloon has given it back');
  assert.equal(of('all', true), { used: 10, unused: 10 }, 'all is all');
});

test('only private memory without a file is joined', () => {
  const memory = anonymousRanges(parseMaps(MAPS));
  assert.equal(
    memory.map(({ start, end }) => Number(end - start) / 2 ** 20),
    [12, 512],
  );
});

test('a block is found at QEMU’s address, and has to be mapped whole', () => {
  const memory = anonymousRanges(parseMaps(MAPS));
  const at = (address: bigint) => addressOf({ address, length: HUGE_BYTES }, memory);
  assert.is(at(0x7fe203e00000n), 0x7fe203e00000n);
  assert.is(at(0x7fe223d00000n), undefined, 'it would end elsewhere');
  assert.is(at(0x7fde18000000n), undefined, 'a file is behind it');
});

test('without QEMU’s address, a block is found by its size if that is unique', () => {
  const memory = anonymousRanges(parseMaps(MAPS));
  const of = (mib: number) => addressOf({ length: mib * 2 ** 20 }, memory);
  assert.is(of(512), 0x7fe203e00000n);
  assert.is(of(16), undefined);
  const twice = anonymousRanges(
    parseMaps(`${MAPS}\n7fe303e00000-7fe323e00000 rw-p 00000000 00:00 0 `),
  );
  assert.is(addressOf({ length: 2 ** 29 }, twice), undefined);
});

test('an obstacle in the kernel is reported with a code, a place and a hint', async () => {
  // A thread of this process is alive, but has no pidfd: it leads no process (pidfd_open(2)).
  const pid = Number(
    readdirSync('/proc/self/task').find((thread) => Number(thread) !== process.pid),
  );
  const vm = { pid, startTime: startTimeOf(pid) ?? '' };
  const room = { directory: scratchFolder(), keepFreeBytes: 0 };
  const split = { vm, which: 'used', hasBalloon: false, blocks: [], room } as const;
  try {
    await joinHugePages(split, new AbortController().signal);
    assert.unreachable();
  } catch (error) {
    const { code, member, where, message, hint } = toFailure(error, { member: 'n0' });
    assert.equal([code, member, where], ['E_HUGE_PAGES', 'n0', 'join huge pages']);
    assert.match(message, `process ${pid}`);
    assert.ok(hint);
  }
});

test('a VM that has ended meanwhile is no error', async () => {
  const child = spawn('true');
  const pid = child.pid ?? 0;
  const vm = { pid, startTime: startTimeOf(pid) ?? '' };
  await once(child, 'exit');
  const room = { directory: scratchFolder(), keepFreeBytes: 0 };
  const split = { vm, which: 'used', hasBalloon: false, blocks: [], room } as const;
  const { joinedBytes, refusedBytes } = await joinHugePages(split, new AbortController().signal);
  assert.equal([joinedBytes, refusedBytes], [0, 0]);
});

test.run();
