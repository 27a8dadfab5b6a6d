import koffi from 'koffi';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { alignedBuffer } from '../../shadow/index.ts';

const test = suite('shadow: aligned buffer');

test('it begins at a multiple of 4096 and has the length asked for', () => {
  for (const bytes of [0, 1, 4095, 65_536, 65_537, 2 ** 20]) {
    const memory = alignedBuffer(bytes);
    assert.is(memory.length, bytes);
    if (bytes > 0) assert.is(BigInt(koffi.address(memory)) % 4096n, 0n);
  }
});

test.run();
