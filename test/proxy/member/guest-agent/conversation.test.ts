import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import { Conversation } from '../../../../proxy/member/guest-agent/conversation.ts';
import { socketOf } from '../../../../proxy/member/guest-agent/port.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const test = suite('guest agent conversation');
const ID = 99;
/** Ends only waiting that would never end. */
const LIMIT_MS = 60_000;
const SHORT_MS = 50;
/** Long enough for an answer that comes, on any machine. */
const AWAKE_MS = 2_000;
let folder: string;
let path: string;
let server: Server | undefined;

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-agent-'));
  path = join(folder, 'qga.sock');
});
test.after.each(() => {
  server?.close();
  rmSync(folder, { recursive: true });
});

/** Plays an agent behind a port. @param answer is given each line, with the mark before it */
async function agent(answer: (line: string, socket: Socket) => void): Promise<void> {
  server = createServer((socket) => {
    let said = '';
    socket.on('error', () => {});
    socket.setEncoding('latin1').on('data', (text: string) => {
      said += text;
      for (let end = said.indexOf('\n'); end >= 0; end = said.indexOf('\n')) {
        answer(said.slice(0, end), socket);
        said = said.slice(end + 1);
      }
    });
  });
  server.listen(path);
  await once(server, 'listening');
}

const isSync = (line: string) => line.includes('guest-sync-delimited');
const begin = (answerMs = LIMIT_MS) => Conversation.begin(path, ID, answerMs);

async function failureOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof UmbraError && error.code === 'E_GUEST_AGENT') return error.message;
    throw error;
  }
  throw new Error('it succeeded');
}

test('asks with a mark and a number, then one question at a time', async () => {
  const asked: string[] = [];
  await agent((line, socket) => {
    asked.push(line);
    if (isSync(line)) socket.write(Buffer.from(`{"return":{}}\n\xff{"return":${ID}}\n`, 'latin1'));
    else socket.write(`{"return":${asked.length}}\n`);
  });
  const conversation = await begin();
  assert.equal(await conversation.ask('{"execute":"a"}'), { kind: 'return', value: 2 });
  assert.equal(await conversation.ask('{"execute":"b"}'), { kind: 'return', value: 3 });
  conversation.close();
  const sync = `\xff{"execute":"guest-sync-delimited","arguments":{"id":${ID}}}`;
  assert.equal(asked, [sync, '{"execute":"a"}', '{"execute":"b"}']);
});

test('a silent agent, and one that stops answering, end at the deadline', async () => {
  await agent(() => {});
  assert.match(await failureOf(begin(SHORT_MS)), 'does not answer');
  server?.close();
  await agent((line, socket) => {
    if (isSync(line)) socket.write(Buffer.from(`\xff{"return":${ID}}\n`, 'latin1'));
  });
  const conversation = await begin(AWAKE_MS);
  assert.match(await failureOf(conversation.ask('{}')), 'does not answer');
  assert.match(await failureOf(conversation.ask('{}')), 'does not answer');
});

test('an agent that says more than it was asked is not believed', async () => {
  await agent((line, socket) => {
    if (isSync(line)) {
      socket.write(Buffer.from(`\xff{"return":${ID}}\n{"return":1}\n`, 'latin1'));
    }
  });
  const conversation = await begin();
  assert.match(await failureOf(conversation.ask('{}')), 'answers what it was not asked');
});

test('a socket that is not there, or whose QEMU ends, is said at once', async () => {
  assert.match(await failureOf(begin()), `${path}: ENOENT`);
  await agent((_, socket) => socket.destroy());
  assert.match(await failureOf(begin()), /has been left by QEMU|EPIPE|ECONNRESET/);
});

test('the path of a socket is read from QEMU’s words', () => {
  const named = (filename: string, isOpen = true) => {
    return { label: 'agent', filename, 'frontend-open': isOpen };
  };
  assert.is(socketOf(named('disconnected:unix:/run/a,b.sock,server=on')), '/run/a,b.sock');
  const closed = named('disconnected:unix:/run/a.sock,server=on', false);
  assert.throws(() => socketOf(closed), /no program in the guest has opened its port/);
  const refused: readonly [string | undefined, RegExp][] = [
    ['unix:/run/a.sock,server=on', /another client talks with it on \/run\/a.sock/],
    ['disconnected:unix:/run/a.sock', /chardev agent is no unix socket with server=on/],
    ['disconnected:tcp:127.0.0.1:7,server=on', /is no unix socket/],
    ['pty:/dev/pts/3', /is no unix socket/],
    [undefined, /is no unix socket/],
  ];
  for (const [filename, expected] of refused) {
    const chardev = filename === undefined ? undefined : named(filename);
    assert.throws(
      () => socketOf(chardev),
      ({ code, message }: UmbraError) => code === 'E_GUEST_AGENT' && expected.test(message),
    );
  }
});

test.run();
