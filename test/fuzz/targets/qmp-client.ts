/**
 * Fuzz target: the QMP client. Its peer sends the input and closes the connection. Connecting and
 * executing end with an answer or a QmpError. Events and unexpected messages cause no unhandled
 * rejection.
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { QmpClient, QmpError } from '../../../qmp/index.ts';
import { mutateLines } from '../mutate-lines.ts';
import { codeOf, type Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';

const folder = makeFolder('qmp');
const path = join(folder, 'qmp.sock');
/** Limit of waiting for a peer, which sends its second half only after a request. */
const DEADLINE_MS = 30;

export const target: Target = {
  covers: ['qmp/'],
  inputBytesMax: 4_000,
  words: ['{"return": {"status": "running"}, "id": 2}\r\n', '{"event": "STOP"}\r\n', '\n'],
  mutate: mutateLines,
  async check(input) {
    const server = await serve(input);
    try {
      const qmp = await QmpClient.connect(path, { timeoutMs: DEADLINE_MS });
      qmp.onEvent(() => {});
      const [answer] = await Promise.allSettled([execute(qmp), qmp.closed]);
      if (answer.status === 'rejected') throw answer.reason;
      return 'answered';
    } catch (error) {
      return codeOf(error, QmpError);
    } finally {
      server.close();
    }
  },
};

function execute(qmp: QmpClient): Promise<unknown> {
  return qmp.execute('query-status', undefined, { timeoutMs: DEADLINE_MS });
}

/** Serves the input: its first line at once, the rest after a request. */
async function serve(input: Buffer): Promise<Server> {
  rmSync(path, { force: true });
  const half = input.indexOf(0x0a) + 1;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(input.subarray(0, half));
    socket.once('data', () => socket.end(input.subarray(half)));
    if (half === 0) socket.end(input);
  });
  server.listen(path);
  await once(server, 'listening');
  return server;
}
