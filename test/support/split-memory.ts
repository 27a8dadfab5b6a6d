/**
 * Private memory of this process in small pages, and the kernel's figures for it (mmap(2),
 * madvise(2)).
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { absentBytes } from '../../proxy/host/pagemap.ts';

const PAGE_SIZE = 4096;
const HUGE_BYTES = 2 ** 21;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;

const libc = koffi.load('libc.so.6');
const mmap = libc.func(
  'int64_t mmap(int64_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
);
const madvise = libc.func('int madvise(int64_t address, size_t length, int advice)');

export interface SplitMemory {
  /** The same memory as a RAM block of a VM. */
  readonly block: { readonly address: bigint; readonly length: number };
  /** Writes to the first `pages` of a huge page. */
  write(huge: number, pages: number): void;
  /** Reads all pages of a huge page. */
  read(huge: number): void;
  giveBack(huge: number): void;
  /** Counts the absent small pages of each huge page. */
  absentPages(): number[];
}

/** @param count size, in huge pages; freed when the process exits */
export function splitMemory(count: number): SplitMemory {
  const size = count * HUGE_BYTES;
  const mapped = mmap(0, size + HUGE_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (Number(mapped) === -1) throw new Error(`mmap: errno ${koffi.errno()}`);
  const start = Math.ceil(Number(mapped) / HUGE_BYTES) * HUGE_BYTES;
  const advise = (huge: number, hugePages: number, advice: number) => {
    const result = madvise(start + huge * HUGE_BYTES, hugePages * HUGE_BYTES, advice);
    if (result !== 0) throw new Error(`madvise ${advice}: errno ${koffi.errno()}`);
  };
  const memory = new Uint8Array(koffi.view(BigInt(start), size));
  const touch = (huge: number, pages: number, act: (at: number) => void) => {
    advise(0, count, MADV_NOHUGEPAGE);
    for (let page = 0; page < pages; page++) act(huge * HUGE_BYTES + page * PAGE_SIZE);
    advise(0, count, MADV_HUGEPAGE);
  };
  let sum = 0;
  return {
    block: { address: BigInt(start), length: size },
    write: (huge, pages) => touch(huge, pages, (at) => memory.fill(0, at, at + 1)),
    read(huge) {
      touch(huge, HUGE_BYTES / PAGE_SIZE, (at) => {
        sum += memory[at] ?? 0;
      });
      if (sum !== 0) throw new Error('memory that was never written holds a value');
    },
    giveBack: (huge) => advise(huge, 1, MADV_DONTNEED),
    absentPages() {
      const pagemap = openSync('/proc/self/pagemap', 'r');
      const of = (huge: number) =>
        absentBytes(pagemap, BigInt(start + huge * HUGE_BYTES), HUGE_BYTES);
      const absent = Array.from({ length: count }, (_, huge) => of(huge) / PAGE_SIZE);
      closeSync(pagemap);
      return absent;
    },
  };
}
