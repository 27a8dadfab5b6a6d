import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { thisProcess } from '../../../../proxy/host/known-process.ts';
import { parseMaps } from '../../../../proxy/host/proc-maps.ts';
import {
  liftWriteProtection,
  writableRanges,
} from '../../../../proxy/member/repair/write-protection.ts';

const test = suite('write-protection');

const MAPS = `7f39abe00000-7f39bbe00000 rw-p 00000000 00:00 0
7f39bc000000-7f39bc021000 rw-p 00000000 00:00 0                          [heap]
559d0d200000-559d0d9c1000 r-xp 00300000 fd:00 1573                       /usr/bin/qemu rw-p
7f39c0000000-7f39e0000000 rw-s 00000000 00:19 42                         /dev/shm/ram
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

test('guest memory is among the writable mappings, private or shared', () => {
  assert.equal(writableRanges(parseMaps(MAPS)), [
    { start: 0x7f39abe00000n, length: 0x10000000n },
    { start: 0x7f39bc000000n, length: 0x21000n },
    { start: 0x7f39c0000000n, length: 0x20000000n },
  ]);
});

test('a process that protects nothing is left alone', () => {
  assert.is(liftWriteProtection(thisProcess()), 0);
});

test('a process that took the pid of one that ended is left alone', () => {
  assert.is(liftWriteProtection({ ...thisProcess(), startTime: '0' }), 0);
});

test.run();
