import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import { domainReply } from '../../../../proxy/member/guest-agent/domain-agent.ts';
import { type Reply, ReplyReader } from '../../../../proxy/member/guest-agent/replies.ts';

const test = suite('guest agent replies');
const ID = 4711;
const MARK = '\xff';
const OURS = `${MARK}{"return": ${ID}}\n`;

/** Feeds text, a character a byte, in pieces of so many bytes. */
function read(text: string, pieceBytes = text.length): Reply[] {
  const reader = new ReplyReader(ID);
  const bytes = Buffer.from(text, 'latin1');
  const replies: Reply[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    replies.push(...reader.read(bytes.subarray(at, at + pieceBytes)));
  }
  return replies;
}

function failureOf(text: string): string {
  try {
    read(text);
  } catch (error) {
    if (error instanceof UmbraError && error.code === 'E_GUEST_AGENT') return error.message;
    throw error;
  }
  throw new Error('it was read');
}

const value = (of: unknown): Reply => ({ kind: 'return', value: of });

test('a conversation begins with our number, in pieces of any size', () => {
  const text = `${OURS}{"return": 17}\n{"return": {}}\n`;
  for (let pieceBytes = 1; pieceBytes <= text.length; pieceBytes++) {
    assert.equal(read(text, pieceBytes), [value(ID), value(17), value({})], `${pieceBytes}`);
  }
});

test('what was asked before is skipped, whole or cut', () => {
  const stale = [
    '{"return": 1}\n',
    `{"return": ${ID}}\n`, // without a mark it is no answer to guest-sync-delimited
    '":{"half an answer"}}\n',
    `${MARK}{"return": 12}\n`,
    `${MARK}{"return": 12}\n{"return": ${ID}}\n`,
    `${MARK}{"error": {"class": "GenericError", "desc": "no"}}\n`,
    `${MARK}{"retu${MARK}`,
    MARK + MARK,
    `${MARK}[]\n${MARK}null\n`,
  ];
  for (const text of [...stale, stale.join('')]) {
    for (const pieceBytes of [1, 7, 10_000]) {
      assert.equal(read(`${text}${OURS}{"return": 5}\n`, pieceBytes), [value(ID), value(5)], text);
    }
  }
});

test('an agent that never gives our number gives nothing', () => {
  assert.equal(read(`{"return": ${ID}}\n${MARK}{"return": 1}\n${'x'.repeat(100_000)}`), []);
});

test('a flood before our number takes no memory, and the number is found after it', () => {
  const flood = `${MARK}${'a'.repeat(200_000)}\n`;
  assert.equal(read(flood + OURS, 1000), [value(ID)]);
  assert.equal(read(`${MARK}${'a'.repeat(200_000)}${OURS}`, 1000), [value(ID)]);
});

test('a reply that is too long is refused', () => {
  assert.match(failureOf(`${OURS}{"return": "${'a'.repeat(5000)}"}\n`), 'more than 4096 bytes');
  const endless = `${OURS}${'a'.repeat(5000)}`;
  assert.match(failureOf(endless), 'more than 4096 bytes');
});

test('what is no reply is refused, and its words cannot steer a terminal', () => {
  for (const line of ['', '7', '[]', 'null', '{', '{"x": 1}', '{"error": {"desc": 1}}']) {
    assert.match(failureOf(`${OURS}${line}\n`), 'the guest agent answers "');
  }
  const message = failureOf(`${OURS}\x1b[2J\x9b\x07${'z'.repeat(200)}\n`);
  assert.match(message, /^[\x20-\x7e’…]+$/);
  assert.ok(message.length < 150);
});

test('an error has words that can be printed', () => {
  const error = '{"error": {"class": "GenericError", "desc": "no \\u001b[2J clock\\n"}}\n';
  assert.equal(read(`${OURS}${error}`)[1], { kind: 'error', words: '"no ?[2J clock?"' });
});

test('libvirt’s words are told apart: a reply, a refusal, no agent', () => {
  const echo = `virsh # qemu-agent-command U '{"execute":"guest-get-time","arguments":{}}'\n`;
  assert.equal(domainReply(`${echo}{"return":17}\n\n`), value(17));
  const refused = 'internal error: unable to execute QEMU agent command';
  assert.equal(domainReply(`${echo}error: ${refused} 'guest-set-time': no \x1bclock\n`), {
    kind: 'error',
    words: '"no ?clock"',
  });
  assert.throws(
    () =>
      domainReply(`${echo}error: Guest agent is not responding: QEMU guest agent is not connected`),
    ({ code, message }: UmbraError) => code === 'E_GUEST_AGENT' && /not connected"$/.test(message),
  );
});

test.run();
