import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../proxy/failure.ts';
import { startTimeOf } from '../../../proxy/known-process.ts';
import {
  addressOf,
  anonymousRanges,
  floors,
  hugePages,
  joinHugePages,
} from '../../../proxy/member/huge-pages.ts';
import { HOLDS } from '../../../proxy/member/shadow-sink.ts';
import { scratchFolder } from '../../support/scratch.ts';

const test = suite('huge pages');
const HUGE_BYTES = 2 ** 21;
const PER_HUGE = 512;
const EMPTY = 1;

const MAPS = [
  '55d0c0000000-55d0c0200000 r-xp 00000000 fe:01 1234                       /usr/bin/qemu-system-x86_64',
  '7fde17fff000-7fde37fff000 rw-p 00000000 00:1b 756305                     /dev/shm/demo/ram-0.img',
  '7fe1e0000000-7fe1e0800000 rw-s 00000000 00:01 5                          /memfd:shared (deleted)',
  '7fe200000000-7fe200c00000 rw-p 00000000 00:00 0 ',
  '7fe203e00000-7fe223e00000 rw-p 00000000 00:00 0 ',
  '7fe223e00000-7fe223e01000 ---p 00000000 00:00 0 ',
].join('\n');

/** So many pages hold something in each huge page. */
function pagesOf(...used: readonly number[]): Uint8Array {
  const pages = new Uint8Array(used.length * PER_HUGE).fill(EMPTY);
  for (const [index, count] of used.entries()) {
    pages.fill(HOLDS, index * PER_HUGE, index * PER_HUGE + count);
  }
  return pages;
}

function chosen(pages: Uint8Array, start: bigint, kind: 'used' | 'unused'): [number, number][] {
  const found = [...hugePages(pages, start, HUGE_BYTES, kind)];
  return found.map(({ address, addedBytes }) => {
    return [Number(address - start) / HUGE_BYTES, addedBytes / 4096];
  });
}

test('used: where half of it holds something, and no more is added than that', () => {
  const pages = pagesOf(0, 255, 256, 512);
  assert.equal(chosen(pages, 0n, 'used'), [
    [2, 256],
    [3, 0],
  ]);
});

test('unused: the others, and what each adds is known', () => {
  assert.equal(chosen(pagesOf(0, 255, 256, 512), 0n, 'unused'), [
    [0, 512],
    [1, 257],
  ]);
});

test('huge pages are where the kernel can have them, whatever the block begins with', () => {
  const page = 4096n;
  assert.equal(chosen(pagesOf(0, 0, 0), -page & 0xffff_ffffn, 'unused'), [
    [1 / PER_HUGE, 512],
    [1 + 1 / PER_HUGE, 512],
  ]);
  assert.equal(chosen(pagesOf(0), page, 'unused'), []);
});

test('what must stay free: unused memory takes none of what another round needs, nor of what is scarce', () => {
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

test('joined is private memory without a file alone', () => {
  const memory = anonymousRanges(MAPS);
  assert.equal(
    memory.map(({ start, end }) => Number(end - start) / 2 ** 20),
    [12, 512],
  );
});

test('a block is where QEMU says, and has to be there whole', () => {
  const memory = anonymousRanges(MAPS);
  const pages = pagesOf(0);
  const at = (address: bigint) => addressOf({ address, pages }, memory);
  assert.is(at(0x7fe203e00000n), 0x7fe203e00000n);
  assert.is(at(0x7fe223d00000n), undefined, 'it would end elsewhere');
  assert.is(at(0x7fde18000000n), undefined, 'a file is behind it');
});

test('a QEMU that does not say: found by its size, if no other has that', () => {
  const memory = anonymousRanges(MAPS);
  const of = (mib: number) => {
    return addressOf({ address: undefined, pages: new Uint8Array(mib * 256) }, memory);
  };
  assert.is(of(512), 0x7fe203e00000n);
  assert.is(of(16), undefined);
  const twice = anonymousRanges(`${MAPS}\n7fe303e00000-7fe323e00000 rw-p 00000000 00:00 0 `);
  assert.is(addressOf({ address: undefined, pages: new Uint8Array(2 ** 17) }, twice), undefined);
});

test('what keeps the kernel from it has a code, a place, and a way out', async () => {
  // A thread of ours: it is alive, and there is no pidfd of one that leads no process (pidfd_open(2)).
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

test('a VM that has ended meanwhile is nothing to complain about', async () => {
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
