import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { measureRoom, requireRoom, type ShadowError } from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';

const MEBIBYTE = 2 ** 20;

const test = suite('room');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-room-'));
  write('proc/meminfo', 'MemTotal:       9999 kB\nMemAvailable:   204800 kB\n');
  write('proc/self/cgroup', '4:memory:/elsewhere\n0::/outer/inner\n');
});

test.after.each(() => rmSync(root, { recursive: true, force: true }));

test('the room is the least of what host, groups and filesystem leave', () => {
  assert.equal(measure(), { availableBytes: 200 * MEBIBYTE, limitedBy: 'memory' });
  limit('outer/inner', { max: 150 * MEBIBYTE, current: 50 * MEBIBYTE });
  assert.equal(measure(), { availableBytes: 100 * MEBIBYTE, limitedBy: 'cgroup' });
});

test('another process has groups of its own', () => {
  write('proc/4711/cgroup', '0::/another\n');
  limit('another', { max: 50 * MEBIBYTE, current: 20 * MEBIBYTE });
  assert.is(measure().availableBytes, 200 * MEBIBYTE);
  assert.equal(measure(4711), { availableBytes: 30 * MEBIBYTE, limitedBy: 'cgroup' });
});

test('a group around ours limits us, too', () => {
  limit('outer/inner', { max: 'max', current: 50 * MEBIBYTE });
  limit('outer', { max: 120 * MEBIBYTE, current: 90 * MEBIBYTE });
  assert.is(measure().availableBytes, 30 * MEBIBYTE);
});

test('cached files make way, tmpfs does not', () => {
  limit('outer/inner', { max: 100 * MEBIBYTE, current: 90 * MEBIBYTE, cached: 60 * MEBIBYTE });
  assert.is(measure().availableBytes, 70 * MEBIBYTE);
});

test('a group that has more than it may leaves nothing', () => {
  limit('outer/inner', { max: 10 * MEBIBYTE, current: 12 * MEBIBYTE });
  assert.is(measure().availableBytes, 0);
});

test('a path that leads out of the namespace is not followed', () => {
  write('proc/self/cgroup', '0::/../outer\n');
  limit('outer', { max: 120 * MEBIBYTE, current: 90 * MEBIBYTE });
  limit('../outer', { max: 2 * MEBIBYTE, current: 0 });
  assert.is(measure().availableBytes, 30 * MEBIBYTE);
});

test('too little room is refused with the missing bytes', () => {
  const isMissingMost = ({ code, missingBytes }: ShadowError) =>
    code === 'E_STORE_NO_ROOM' && (missingBytes ?? 0) > 2 ** 49;
  assert.throws(() => requireRoom(root, 2 ** 50, 0), isMissingMost);
  requireRoom(root, MEBIBYTE, 0);
});

test.run();

function measure(process: number | 'self' = 'self') {
  return measureRoom(root, { proc: join(root, 'proc'), cgroups: join(root, 'groups'), process });
}

function limit(
  group: string,
  { max, current, cached = 0 }: { max: number | 'max'; current: number; cached?: number },
): void {
  write(`groups/${group}/memory.max`, `${max}\n`);
  write(`groups/${group}/memory.current`, `${current}\n`);
  write(`groups/${group}/memory.stat`, `anon 1\ninactive_file ${cached}\nactive_file 7\n`);
}

function write(name: string, text: string): void {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
