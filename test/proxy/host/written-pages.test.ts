/** Watching memory of a real process: what the kernel says was written, and what it does not. */
import { closeSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { callIn } from '../../../proxy/host/inject.ts';
import {
  closeIn,
  copyDescriptor,
  enableAsync,
  makeUserfaultfdIn,
  userfaultfdsOf,
  watch,
} from '../../../proxy/host/userfaultfd.ts';
import { WrittenPages, type WrittenRun } from '../../../proxy/host/written-pages.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';
import { Writer } from '../../support/writer.ts';

const test = suite('written pages');
const MIB = 2 ** 20;
const PAGES = 2048;
const BYTES = PAGES * 4096;
const SYS_GETPID = 39;

const folder = mkdtempSync(join(scratchFolder(), 'umbra-written-'));
let writer: Writer;
let hasEnded = false;

test.before.each(async () => {
  if (writer === undefined || hasEnded) writer = await Writer.start();
  hasEnded = false;
});
test.after(async () => {
  await writer.end();
  rmSync(folder, { recursive: true, force: true });
});

/** Has the process map memory that is watched, all marks cleared. */
async function watched(kind: 'anonymous' | 'mapped' | 'shared') {
  const file = join(folder, `${kind}.img`);
  if (kind !== 'anonymous') writeFileSync(file, Buffer.alloc(BYTES, 7));
  const address = await writer.map(kind, BYTES, kind === 'anonymous' ? undefined : file);
  const fd = makeUserfaultfdIn(writer.process);
  const copy = copyDescriptor(writer.process.pid, fd);
  assert.ok(enableAsync(copy));
  assert.is(watch(copy, { start: address, length: BigInt(BYTES) }), 0);
  closeSync(copy);
  const pages = new WrittenPages(writer.process);
  const range = { address, bytes: BYTES };
  const first = pages.find(range, 'as-found');
  return { fd, pages, range, first };
}

/** Ends the process; the next test has another. */
async function end(): Promise<void> {
  await writer.end();
  hasEnded = true;
}

function pagesOf(runs: readonly WrittenRun[]): number[] {
  return runs.flatMap(({ page, count }) => Array.from({ length: count }, (_, at) => page + at));
}

for (const kind of ['anonymous', 'mapped', 'shared'] as const) {
  test(`of ${kind} memory, all is written at first, and then what is written`, async () => {
    const { pages, range, first } = await watched(kind);
    assert.is(pagesOf(first).length, PAGES);
    assert.equal(pages.find(range, 'as-found'), []);
    await writer.do({ write: [3, 4, 700, PAGES - 1], read: [9] });
    assert.equal(pagesOf(pages.find(range, 'as-found')), [3, 4, 700, PAGES - 1]);
    assert.equal(pages.find(range, 'as-found'), []);
    pages.close();
  });
}

test('a page of anonymous memory that is given back counts as written, and is absent', async () => {
  const { pages, range } = await watched('anonymous');
  await writer.do({ write: [5, 6] });
  pages.find(range, 'as-found');
  await writer.do({ giveBack: [5] });
  assert.equal(pages.find(range, 'as-found'), [{ page: 5, count: 1, absent: true }]);
  pages.close();
});

test('a page of a file that is given back is not seen: hence no balloon there', async () => {
  const { pages, range } = await watched('mapped');
  await writer.do({ write: [5] });
  pages.find(range, 'as-found');
  await writer.do({ giveBack: [5] });
  assert.equal(pages.find(range, 'as-found'), []);
  pages.close();
});

test('found without being cleared, pages are found again', async () => {
  const { pages, range } = await watched('anonymous');
  await writer.do({ write: [8] });
  assert.equal(pagesOf(pages.find(range, 'none')), [8]);
  assert.equal(pagesOf(pages.find(range, 'none')), [8]);
  assert.is(pages.clearedPages, PAGES); // by the first look alone
  pages.close();
});

test('beside a hypervisor, only pages that were written are given to be cleared', async () => {
  const { pages, range } = await watched('anonymous');
  const before = pages.clearedPages;
  await writer.do({ write: [1, 2, 3, 900, 1500] });
  assert.equal(pagesOf(pages.find(range, 'runs')), [1, 2, 3, 900, 1500]);
  assert.is(pages.clearedPages - before, 5);
  assert.equal(pages.find(range, 'runs'), []);
  pages.close();
});

test('a process that has ended is an error, not a process that has written nothing', async () => {
  const { pages, range } = await watched('anonymous');
  await end();
  assert.throws(() => pages.find(range, 'as-found'));
  pages.close();
});

test('watching outlives the copy that began it, and ends with the descriptor there', async () => {
  const { fd, pages, range } = await watched('anonymous');
  assert.equal(userfaultfdsOf(writer.process.pid), [{ fd, isAsync: true }]);
  closeIn(writer.process, fd);
  assert.equal(userfaultfdsOf(writer.process.pid), []);
  assert.throws(() => pages.find(range, 'as-found'));
  await writer.do({ write: [1] });
  pages.close();
});

test('two userfaultfds cannot watch the same memory', async () => {
  const { range } = await watched('anonymous');
  const fd = makeUserfaultfdIn(writer.process);
  const copy = copyDescriptor(writer.process.pid, fd);
  enableAsync(copy);
  assert.is(watch(copy, { start: range.address, length: BigInt(MIB) }), 16);
  closeSync(copy);
});

test('a call is made in the other process, which goes on as if nothing had happened', async () => {
  for (let turn = 0; turn < 50; turn++) {
    assert.is(callIn(writer.process, SYS_GETPID, 0n, 10_000), writer.process.pid);
    await writer.do({ write: [turn] });
  }
});

test('a process that is gone, or another by now, is left alone', async () => {
  const other = { ...writer.process, startTime: '1' };
  assert.throws(() => callIn(other, SYS_GETPID, 0n, 1000), /is gone/);
  await writer.do({ write: [1] });
  await end();
  assert.throws(() => callIn(writer.process, SYS_GETPID, 0n, 1000), /PTRACE_SEIZE/);
});

test.run();
