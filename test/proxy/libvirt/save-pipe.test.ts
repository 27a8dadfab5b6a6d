import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SavePipe } from '../../../proxy/libvirt/save-pipe.ts';
import { scratchFolder } from '../../support/scratch.ts';

const MiB = 2 ** 20;
/** More than a pipe takes. */
const CHUNKS = Array.from({ length: 5 }, () => randomBytes(MiB));
const QUIET_MS = 50;

const test = suite('save pipe');
let directory = '';
let pipe: SavePipe;

test.before.each(async () => {
  directory = mkdtempSync(join(scratchFolder(), 'umbra-pipe-'));
  pipe = await SavePipe.make(join(directory, 'p'));
});

test.after.each(() => {
  pipe.close();
  rmSync(directory, { recursive: true, force: true });
});

test('a reader gets the written bytes, as fast as it reads', async () => {
  const reader = spawn('sha256sum', [pipe.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const said = once(reader.stdout, 'data');
  for (const chunk of CHUNKS) await pipe.write(chunk);
  await pipe.read();
  pipe.close();
  const [sum] = String(await said).split(' ');
  assert.is(sum, createHash('sha256').update(Buffer.concat(CHUNKS)).digest('hex'));
  assert.not(existsSync(pipe.path));
});

test('the end of reading is known, and not before', async () => {
  await pipe.write(Buffer.from('head'));
  let read = false;
  const waiting = pipe.read().then(() => {
    read = true;
  });
  const fd = openSync(pipe.path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    assert.is(readSync(fd, Buffer.alloc(3)), 3);
    await delay(QUIET_MS);
    assert.not(read, 'a byte is left');
    readSync(fd, Buffer.alloc(1));
    await waiting;
  } finally {
    closeSync(fd);
  }
});

test('opens by other processes are counted, and this one’s is not', () => {
  assert.is(pipe.opens, 0);
  // No look between them: the kernel joins events that are alike.
  for (let count = 0; count < 3; count++) {
    closeSync(openSync(pipe.path, constants.O_RDONLY | constants.O_NONBLOCK));
  }
  assert.is(pipe.opens, 3);
});

test('a write that no process reads ends with the pipe', async () => {
  const writing = pipe.write(CHUNKS[0] ?? Buffer.alloc(0));
  pipe.close();
  pipe.close();
  await pipe.read();
  const how = await writing.then(
    () => 'written',
    () => 'given up',
  );
  assert.is(how, 'given up');
});

test('a missing folder is reported', async () => {
  try {
    await SavePipe.make(join(directory, 'none', 'p'));
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code?: string }).code, 'E_EXPORT');
  }
});

test.run();
