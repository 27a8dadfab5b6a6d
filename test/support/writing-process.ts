/**
 * A process that maps memory and writes to it as it is told, like a VM's guest. Each order is
 * answered with where its memory is. It exits when its parent disconnects.
 *
 *     anonymous             as a VM has by default
 *     mapped FILE           private, of a file: as after a restore by `map`
 *     shared FILE           shared, of a file
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

// <sys/mman.h>
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MADV_DONTNEED = 4;
const PAGE_BYTES = 4096;

const libc = koffi.load('libc.so.6');
const mmap = libc.func('int64_t mmap(void *, size_t, int, int, int, int64_t)');
const madvise = libc.func('int madvise(int64_t, size_t, int)');

/** Orders, in the order they are followed: to map memory, write, read, give pages back. */
interface Order {
  readonly map?: { readonly kind: string; readonly bytes: number; readonly file?: string };
  readonly write?: readonly number[];
  readonly read?: readonly number[];
  readonly giveBack?: readonly number[];
}

let address = 0;
let memory = Buffer.alloc(0);

function map({ kind, bytes, file }: NonNullable<Order['map']>): void {
  const fd = file === undefined ? -1 : openSync(file, 'r+');
  const sharing = kind === 'shared' ? MAP_SHARED : MAP_PRIVATE;
  const flags = sharing | (file === undefined ? MAP_ANONYMOUS : 0);
  address = Number(mmap(null, bytes, PROT_READ_WRITE, flags, fd, 0));
  if (address === -1) throw new Error(`mmap: errno ${koffi.errno()}`);
  if (fd >= 0) closeSync(fd);
  memory = Buffer.from(koffi.view(BigInt(address), bytes));
}

process.on('message', (order: Order) => {
  const { write = [], read = [], giveBack = [] } = order;
  if (order.map !== undefined) map(order.map);
  for (const page of write) memory.writeUInt32LE(1, page * PAGE_BYTES);
  let sum = 0;
  for (const page of read) sum += memory.readUInt32LE(page * PAGE_BYTES);
  for (const page of giveBack) madvise(address + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
  process.send?.({ address, sum });
});
process.once('disconnect', () => process.exit());
process.send?.({ ready: true });
