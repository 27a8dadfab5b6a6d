/** The socket a VM's memory comes through: for its owner, and for one connection. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MigrationListener } from '../../../proxy/intake/migration-listener.ts';
import { scratchFolder } from '../../support/scratch.ts';

const test = suite('migration listener');
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-listener-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('no other user may connect, whatever the umask and the file before', async () => {
  const path = join(folder, 'migration.sock');
  writeFileSync(path, 'left by an earlier life', { mode: 0o666 });
  const before = process.umask(0);
  const listener = await MigrationListener.open(path, { onStream: () => {}, onBytes: () => {} });
  process.umask(before);
  const { mode } = statSync(path);
  listener.close();
  assert.is(mode & 0o777, 0o600);
  assert.throws(() => statSync(path), /ENOENT/);
});

test('the first connection is the stream; no other is taken after it', async () => {
  const path = join(folder, 'migration.sock');
  const streams: Socket[] = [];
  const onStream = (socket: Socket) => streams.push(socket);
  const listener = await MigrationListener.open(path, { onStream, onBytes: () => {} });
  const first = connect(path);
  const second = connect(path);
  await once(second, 'close').catch(() => {}); // refused, or hung up on
  assert.is(streams.length, 1);
  assert.not(first.destroyed);
  first.destroy();
  listener.close();
});

test('bytes arrive in order, over pauses; the end can still be answered', async () => {
  const path = join(folder, 'migration.sock');
  const received: Buffer[] = [];
  const listener = await MigrationListener.open(path, {
    onStream: (socket) => {
      socket.on('end', () => socket.end('thanks'));
      socket.resume();
      const timer = setInterval(() => (socket.isPaused() ? socket.resume() : socket.pause()), 1);
      socket.once('close', () => clearInterval(timer));
    },
    onBytes: (chunk) => received.push(Buffer.from(chunk)),
  });
  const sent = randomBytes(3 * 2 ** 20 + 17);
  const peer = connect({ path, allowHalfOpen: true });
  const answer: Buffer[] = [];
  peer.on('data', (data: Buffer) => answer.push(data));
  peer.end(sent);
  await once(peer, 'close');
  assert.is(Buffer.concat(answer).toString(), 'thanks');
  assert.ok(Buffer.concat(received).equals(sent));
  listener.close();
});

test('no byte more is read than there is room for; resumed, the rest follows', async () => {
  const path = join(folder, 'migration.sock');
  const limit = 700_001;
  const sent = randomBytes(3 * 2 ** 20 + 17);
  const received: Buffer[] = [];
  let count = 0;
  let stream: Socket | undefined;
  let reached = (): void => {};
  const full = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const listener = await MigrationListener.open(path, {
    onStream: (socket) => {
      stream = socket;
      socket.on('end', () => socket.end());
      socket.resume();
    },
    onBytes: (chunk) => {
      received.push(Buffer.from(chunk));
      count += chunk.length;
      if (count !== limit) return;
      stream?.pause();
      reached();
    },
    room: () => Math.max(0, limit - count),
  });
  const peer = connect({ path, allowHalfOpen: true });
  const closed = once(peer, 'close');
  peer.resume();
  peer.end(sent);
  await full;
  await nextTurn(); // a read that came in spite of the pause would be here
  assert.is(count, limit);
  stream?.resume();
  await closed;
  assert.ok(Buffer.concat(received).equals(sent));
  listener.close();
});

test('a peer that vanishes is an error or an end, not silence', async () => {
  const path = join(folder, 'migration.sock');
  let stream: Socket | undefined;
  const listener = await MigrationListener.open(path, {
    onStream: (socket) => {
      stream = socket;
      socket.on('error', () => {});
      socket.resume();
    },
    onBytes: () => {},
  });
  const peer = connect(path);
  await once(peer, 'connect');
  while (stream === undefined) await nextTurn();
  const ended = once(stream, 'end');
  peer.destroy();
  await ended;
  listener.close();
  assert.ok(stream.destroyed);
});

test.run();
