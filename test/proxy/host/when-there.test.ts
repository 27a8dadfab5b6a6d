import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { memberFile } from '../../../proxy/host/folders.ts';
import { connectWhenThere } from '../../../proxy/host/when-there.ts';
import { scratchFolder } from '../../support/scratch.ts';

const LONG_MS = 20_000;
const SHORT_MS = 20;

const test = suite('incoming');
let root = '';
let servers: Server[] = [];

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-incoming-'));
  servers = [];
});
test.after.each(() => {
  for (const server of servers) server.close();
  rmSync(root, { recursive: true, force: true });
});

async function listen(path: string): Promise<Server> {
  const server = createServer();
  servers.push(server);
  server.listen(path);
  await once(server, 'listening');
  return server;
}

test('it connects to a process that listens already, and to one that comes later', async () => {
  const { signal } = new AbortController();
  await listen(join(root, 'early'));
  (await connectWhenThere(join(root, 'early'), LONG_MS, signal)).destroy();
  const path = memberFile(root, 'incoming');
  const waiting = connectWhenThere(path, LONG_MS, signal);
  await listen(join(root, 'another')); // is not taken for it
  const server = await listen(path);
  const accepted = once(server, 'connection');
  (await waiting).destroy();
  await accepted;
});

test('no process listens in time: an error that says where', async () => {
  const path = memberFile(root, 'incoming');
  const error = await connectWhenThere(path, SHORT_MS, new AbortController().signal).then(
    () => undefined,
    (reason) => reason,
  );
  assert.is(error?.code, 'E_LOAD_FAILED');
  assert.match(error?.message, path);
});

test('a load that is given up leaves the socket to the next', async () => {
  const path = memberFile(root, 'incoming');
  const given = new AbortController();
  const first = connectWhenThere(path, LONG_MS, given.signal).catch((reason) => reason);
  const reason = new Error('given up');
  given.abort(reason);
  assert.is(await first, reason);
  const server = await listen(path);
  let connections = 0;
  server.on('connection', () => connections++);
  const accepted = once(server, 'connection');
  (await connectWhenThere(path, LONG_MS, new AbortController().signal)).destroy();
  await accepted;
  assert.is(connections, 1);
});

test.run();
