import { execFileSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
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

/** Returns data packed by the zstd program. */
function zstd(data: Buffer): Buffer {
  return execFileSync('zstd', ['-q', '-c'], { input: data });
}

test('the kernel proper is extracted, of either release', () => {
  assert.equal(pvhKernel(bzImage(legacyLz4(ELF))), { kernel: ELF });
  assert.equal(pvhKernel(bzImage(zstd(ELF))), { kernel: ELF });
});

test('a kernel that has to be booted as it is says why', () => {
  const plain = ELF.subarray(0, ELF.length - PVH_NOTE.length);
  const why = (image: Buffer) => pvhKernel(image).obstacle ?? 'none';
  assert.match(why(bzImage(legacyLz4(plain))), 'no entry of its own');
  assert.match(why(bzImage(zstd(Buffer.from('text')))), 'no ELF');
  assert.match(why(bzImage(gzipSync(ELF))), 'packed with gzip, not with LZ4 or zstd');
  assert.match(why(bzImage(compressFrameSync(ELF))), 'an unknown method (04224d18)');
  assert.match(why(bzImage(zstd(ELF).subarray(0, 20))), /cannot be unpacked: Error: .*[a-z]/);
  assert.match(why(Buffer.concat([ELF, Buffer.alloc(4096)])), 'no bzImage');
  assert.match(why(Buffer.alloc(10)), 'no bzImage');
});

test.run();
