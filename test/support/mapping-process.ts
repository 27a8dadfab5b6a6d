/**
 * A process that has mapped a file privately and read all of it, like a VM that was restored by
 * `map`. It is forked with the file's path, sends a message when it has read the file, and exits
 * when its parent disconnects.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';

// <sys/mman.h>
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE = 2;
const MAP_FAILED = 2n ** 64n - 1n;
const PAGE_BYTES = 4096;

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');

const [, , path = ''] = process.argv;
const fd = openSync(path, 'r');
const { size } = fstatSync(fd);
const address = BigInt(mmap(null, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
closeSync(fd);
if (address === MAP_FAILED) throw new Error(`cannot map ${path}: errno ${koffi.errno()}`);
const memory = Buffer.from(koffi.view(address, size));
for (let offset = 0; offset < size; offset += PAGE_BYTES) memory.readUInt8(offset);
process.once('disconnect', () => process.exit());
process.send?.('mapped');
