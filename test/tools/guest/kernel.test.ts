import { compressFrameSync } from 'lz4-napi';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pvhKernel } from '../../../tools/guest/kernel.ts';

const test = suite('guest kernel');

const PVH_NOTE = Buffer.from('04000000080000001200000058656e0050080001', 'hex');
const ELF = Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(100, 7), PVH_NOTE]);
const SETUP_BYTES = 4 * 512;
const OFFSET = 96;

/** Returns LZ4's older format with one block of literals: a token, lengths, bytes. */
function legacyLz4(data: Buffer): Buffer {
  const length = data.length - 15;
  const block = Buffer.concat([Buffer.from([0xf0, length]), data]);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(block.length);
  return Buffer.concat([Buffer.from('02214c18', 'hex'), size, block]);
}

function bzImage(packed: Buffer): Buffer {
  const image = Buffer.alloc(SETUP_BYTES + OFFSET);
  image.writeUInt8(SETUP_BYTES / 512 - 1, 0x1f1);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt32LE(OFFSET, 0x248);
  image.writeUInt32LE(packed.length + 4, 0x24c);
  return Buffer.concat([image, packed, Buffer.alloc(4), Buffer.from('what follows')]);
}

test('the kernel proper is extracted', () => {
  assert.equal(pvhKernel(bzImage(legacyLz4(ELF))), ELF);
});

test('a kernel without its own entry, or packed otherwise, is left unchanged', () => {
  const plain = ELF.subarray(0, ELF.length - PVH_NOTE.length);
  assert.is(pvhKernel(bzImage(legacyLz4(plain))), undefined);
  assert.is(pvhKernel(bzImage(compressFrameSync(ELF))), undefined);
  assert.is(pvhKernel(Buffer.concat([ELF, Buffer.alloc(4096)])), undefined);
  assert.is(pvhKernel(Buffer.alloc(10)), undefined);
});

test.run();
