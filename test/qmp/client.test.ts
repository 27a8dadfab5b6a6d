/** The client against a scripted peer, which makes errors that a real QEMU cannot be asked for. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { QmpClient } from '../../qmp/index.ts';

const GREETING =
  '{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7},"package":""},"capabilities":[]}}\r\n';

interface Request {
  readonly execute: string;
  readonly id: number;
}

const test = suite('qmp client');
let folder = '';
let path = '';
let server: Server;
let sockets: Socket[] = [];

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'umbra-qmp-'));
  path = join(folder, 'qmp.sock');
});

test.after.each(() => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Greets, agrees to capabilities, and hands every other command to `answer`. */
async function serve(answer: (request: Request, socket: Socket) => void, greeting = GREETING) {
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(greeting);
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const request = JSON.parse(line) as Request;
        if (request.execute === 'qmp_capabilities') {
          socket.write(`{"return":{},"id":${request.id}}\r\n`);
        } else answer(request, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    (error: { code?: string }) => error.code ?? String(error),
  );
}

test('answers are matched by id, in any order', async () => {
  const held: Request[] = [];
  await serve((request, socket) => {
    held.push(request);
    if (held.length < 2) return;
    for (const { id, execute } of held.reverse()) {
      socket.write(`{"return":{"status":"${execute}"},"id":${id}}\r\n`);
    }
  });
  const client = await QmpClient.connect(path);
  const [status, name] = await Promise.all([
    client.execute('query-status'),
    client.execute('query-name'),
  ]);
  assert.equal(status.status as string, 'query-status');
  assert.equal((name as { status?: string }).status, 'query-name');
  client.close();
});

test('an error keeps QEMU’s class and text', async () => {
  await serve(({ id }, socket) => {
    socket.write(`{"id":${id},"error":{"class":"DeviceNotFound","desc":"no such thing"}}\r\n`);
  });
  const client = await QmpClient.connect(path);
  try {
    await client.execute('stop');
    assert.unreachable();
  } catch (error) {
    const { code, qemuClass, command, message } = error as Record<string, string>;
    assert.is(code, 'E_QMP_COMMAND');
    assert.is(qemuClass, 'DeviceNotFound');
    assert.is(command, 'stop');
    assert.match(message ?? '', 'no such thing');
  }
  client.close();
});

test('silence is an error: before the greeting and after a command', async () => {
  await serve(() => {}, '');
  assert.is(await codeOf(QmpClient.connect(path, { timeoutMs: 30 })), 'E_QMP_SILENT');
  server.close();
  path = join(folder, 'second.sock');
  await serve(() => {});
  const client = await QmpClient.connect(path);
  const asked = client.execute('query-status', undefined, { timeoutMs: 30 });
  assert.is(await codeOf(asked), 'E_QMP_TIMEOUT');
  client.close();
});

test('an error instead of a greeting: the VM is gone, or only out of reach', async () => {
  const refusal = (code: string) => `{"error":{"class":"${code}","desc":"why"}}\n`;
  await serve(() => {}, refusal('E_LIBVIRT_DOMAIN'));
  assert.is(await codeOf(QmpClient.connect(path)), 'E_QMP_CONNECT');
  server.close();
  path = join(folder, 'away.sock');
  await serve(() => {}, refusal('E_LIBVIRT_CONNECT'));
  assert.is(await codeOf(QmpClient.connect(path)), 'E_QMP_AWAY');
});

test('an error of a bridge without an id fails every command with the bridge’s cause', async () => {
  for (const [name, expected] of [
    ['E_LIBVIRT_CONNECT', 'E_QMP_AWAY'],
    ['E_LIBVIRT_DOMAIN', 'E_QMP_CLOSED'],
  ]) {
    path = join(folder, `${name}.sock`);
    await serve(({ id }, socket) => {
      if (id === 3) socket.end(`{"error":{"class":"${name}","desc":"why"}}\r\n`);
    });
    const client = await QmpClient.connect(path);
    const asked = [client.execute('query-status'), client.execute('query-status')];
    assert.equal(await Promise.all(asked.map(codeOf)), [expected, expected]);
    assert.is((await client.closed).code, expected);
    server.close();
  }
});

test('a late answer is dropped, and the next command works', async () => {
  const late: Request[] = [];
  await serve((request, socket) => {
    if (late.push(request) === 1) return;
    for (const { id } of late) socket.write(`{"return":{"n":${id}},"id":${id}}\r\n`);
  });
  const client = await QmpClient.connect(path);
  await codeOf(client.execute('query-status', undefined, { timeoutMs: 20 }));
  const second = (await client.execute('query-status')) as unknown as { n: number };
  assert.is(second.n, late[1]?.id);
  client.close();
});

test('a peer that is not QMP, a wrong path, and an oversized message', async () => {
  await serve(() => {}, 'SSH-2.0-OpenSSH_9.2\r\n');
  assert.is(await codeOf(QmpClient.connect(path)), 'E_QMP_FRAME');
  assert.is(await codeOf(QmpClient.connect(join(folder, 'none'))), 'E_QMP_CONNECT');
  server.close();
  path = join(folder, 'big.sock');
  await serve(() => {}, `${' '.repeat(5000)}`);
  const small = QmpClient.connect(path, { messageLimitBytes: 4096 });
  assert.is(await codeOf(small), 'E_QMP_FRAME');
});

test('a dead peer fails pending commands, and is reported', async () => {
  await serve((_request, socket) => socket.destroy());
  const client = await QmpClient.connect(path);
  assert.is(await codeOf(client.execute('query-status')), 'E_QMP_CLOSED');
  assert.is((await client.closed).code, 'E_QMP_CLOSED');
  assert.is(await codeOf(client.execute('query-status')), 'E_QMP_CLOSED');
});

test('an AbortSignal ends the wait', async () => {
  await serve(() => {});
  const client = await QmpClient.connect(path);
  const controller = new AbortController();
  const asked = client.execute('query-status', undefined, { signal: controller.signal });
  controller.abort();
  assert.is(await codeOf(asked), 'E_QMP_ABORTED');
  client.close();
});

test('events arrive in order', async () => {
  await serve(({ id }, socket) => {
    for (const name of ['STOP', 'RESUME']) {
      socket.write(`{"event":"${name}","timestamp":{"seconds":1,"microseconds":2}}\r\n`);
    }
    socket.write(`{"return":{},"id":${id}}\r\n`);
  });
  const client = await QmpClient.connect(path);
  const heard: string[] = [];
  client.onEvent(({ name }) => heard.push(name));
  await client.execute('stop');
  assert.equal(heard, ['STOP', 'RESUME']);
  client.close();
});

test('a listener that fails is reported as such, not as a closed monitor', async () => {
  await serve((_request, socket) => {
    socket.write('{"event":"RESUME","timestamp":{"seconds":1,"microseconds":2}}\r\n');
  });
  const client = await QmpClient.connect(path);
  const heard: string[] = [];
  client.onEvent(() => {
    throw new Error('no room');
  });
  client.onEvent(({ name }) => heard.push(name));
  assert.is(await codeOf(client.execute('cont')), 'E_QMP_LISTENER');
  const { code, message } = await client.closed;
  assert.is(code, 'E_QMP_LISTENER');
  assert.match(message, /RESUME: no room/);
  assert.equal(heard, ['RESUME']);
});

test.run();
