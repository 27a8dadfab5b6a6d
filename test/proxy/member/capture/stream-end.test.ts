/** Reports the cause of a stream that ends early, in whatever order stream and monitor tell. */

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure, UmbraError } from '../../../../proxy/failure/failure.ts';
import { whyStreamEnded } from '../../../../proxy/member/capture/stream-end.ts';
import { StreamError } from '../../../../proxy/stream/errors.ts';
import { QmpClient } from '../../../../qmp/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const QEMU = '{"micro":2,"minor":0,"major":10}';
const GREETING = `{"QMP":{"version":{"qemu":${QEMU},"package":""},"capabilities":[]}}\r\n`;
const TRUNCATED = new StreamError('E_STREAM_TRUNCATED', 'the peer closed', 7, 'ram PART');
const UNREADABLE = new UmbraError({ code: 'E_VM_MEMORY', message: '0 of 4096 bytes' });
const LOST = new UmbraError({ code: 'E_STREAM_LOST', message: 'ECONNRESET' });

interface Request {
  readonly execute: string;
  readonly id: number;
}

const test = suite('stream end');
let folder = '';
let server: Server | undefined;

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-end-'));
});

test.after.each(() => {
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Returns the error reported for a stream's end, if the monitor does this on `query-migrate`. */
async function told(error: unknown, asked: (socket: Socket, id: number) => void) {
  const path = join(folder, 'qmp.sock');
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(GREETING);
    socket.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line) as Request;
        if (execute === 'query-migrate') asked(socket, id);
        else socket.write(`{"return":{},"id":${id}}\r\n`);
      }
    });
  });
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  const monitor = await QmpClient.connect(path);
  try {
    return toFailure(await whyStreamEnded(error, monitor), {});
  } finally {
    monitor.close();
  }
}

const answer =
  (status: string, why = '') =>
  (socket: Socket, id: number) => {
    const reason = why === '' ? '' : `,"error-desc":"${why}"`;
    socket.write(`{"return":{"status":"${status}"${reason}},"id":${id}}\r\n`);
  };

for (const [name, error] of [
  ['that is short', TRUNCATED],
  ['that broke', LOST],
  ['that could not be compared', UNREADABLE],
] as const) {
  test(`a stream ${name}, libvirt being away: that is told`, async () => {
    const { code, hint } = await told(error, (socket) => {
      socket.end('{"error":{"class":"E_LIBVIRT_CONNECT","desc":"Cannot recv data"}}\r\n');
    });
    assert.is(code, 'E_QMP_AWAY');
    assert.match(hint ?? '', 'virsh');
  });

  test(`a stream ${name}, QEMU being dead: that is told`, async () => {
    assert.is((await told(error, (socket) => socket.destroy())).code, 'E_QMP_CLOSED');
  });

  test(`a stream ${name} of a migration that failed: told in QEMU’s words`, async () => {
    const { code, message } = await told(error, answer('failed', 'no such device'));
    assert.is(code, 'E_MIGRATION_FAILED');
    assert.match(message, 'no such device');
  });

  test(`a stream ${name}, and the monitor knows no cause: its own error, soon`, async () => {
    const own = toFailure(error, {}).code;
    assert.is((await told(error, answer('active'))).code, own);
    server?.close();
    rmSync(join(folder, 'qmp.sock'), { force: true });
    const silent = await told(error, () => {});
    assert.is(silent.code, own, 'a monitor that says nothing is no cause');
  });
}

test('a fault of the stream itself is reported, and the monitor is not asked', async () => {
  const wrong = new StreamError('E_STREAM_MAGIC', 'GET / HTTP', 0, 'header');
  const { code } = await told(wrong, () => assert.unreachable('asked'));
  assert.is(code, 'E_STREAM_MAGIC');
});

test.run();
