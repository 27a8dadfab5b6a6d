/** The socket a VM's memory comes through: for its owner, and for one connection. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MigrationListener } from '../../../proxy/member/migration-listener.ts';
import { scratchFolder } from '../../support/scratch.ts';

const test = suite('migration listener');
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-listener-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('nobody else may connect, whatever the umask and whatever was there', async () => {
  const path = join(folder, 'migration.sock');
  writeFileSync(path, 'left by an earlier life', { mode: 0o666 });
  const before = process.umask(0);
  const listener = await MigrationListener.open(path, () => {});
  process.umask(before);
  const { mode } = statSync(path);
  listener.close();
  assert.is(mode & 0o777, 0o600);
  assert.throws(() => statSync(path), /ENOENT/);
});

test('the first connection is the stream; nobody can push in behind it', async () => {
  const path = join(folder, 'migration.sock');
  const streams: Socket[] = [];
  const listener = await MigrationListener.open(path, (socket) => streams.push(socket));
  const first = connect(path);
  const second = connect(path);
  await once(second, 'close').catch(() => {}); // refused, or hung up on
  assert.is(streams.length, 1);
  assert.not(first.destroyed);
  first.destroy();
  listener.close();
});

test.run();
