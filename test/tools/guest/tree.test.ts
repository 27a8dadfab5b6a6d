import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { missingLibraries } from '../../../tools/guest/tree.ts';

const listing = `
File: a
 0x0000000000000001 (NEEDED)             Shared library: [libmpi.so.40]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000001d (RUNPATH)            Library runpath: [/usr/lib]
File: b
 0x0000000000000001 (NEEDED)             Shared library: [libmunge.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libmpi.so.40]
 0x000000000000000e (SONAME)             Library soname: [libb.so.1]
`;

test('lists each needed library once that the image does not have', () => {
  assert.equal(missingLibraries(listing, new Set(['libc.so.6'])), [
    'libmpi.so.40',
    'libmunge.so.2',
  ]);
  assert.equal(
    missingLibraries(listing, new Set(['libc.so.6', 'libmpi.so.40', 'libmunge.so.2'])),
    [],
  );
});

test.run();
