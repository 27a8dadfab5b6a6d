/**
 * Fuzz target: replies of a guest agent, on its port or in virsh's words. Only UmbraErrors are
 * thrown, with messages that cannot steer a terminal; the result is the same however the bytes are
 * cut.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { domainReply } from '../../../proxy/member/guest-agent/domain-agent.ts';
import { guestTimeNs } from '../../../proxy/member/guest-agent/guest-agent.ts';
import { type Reply, ReplyReader } from '../../../proxy/member/guest-agent/replies.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import { codeOf, type Target } from '../target.ts';

/** The number in the corpus. */
const ID = 4711;
const PRINTABLE = /^[\x20-\x7e’…]*$/;

export const target: Target = {
  covers: ['proxy/member/guest-agent/'],
  inputBytesMax: 20_000,
  words: [Buffer.of(0xff), '{"return":', '4711}', '{"error":', '"desc"', '\n', 'x'.repeat(5000)],
  async check(input) {
    const whole = read([input]);
    assert.deepEqual(read(atRandom(input, crc32(input), 300)), whole);
    const { replies, failure } = whole;
    for (const reply of replies) await lookAt(reply);
    lookAtFailure(() => domainReply(input.toString('utf8')));
    const how = replies.length > 1 ? 'replies' : replies.length > 0 ? 'begun' : 'nothing';
    return `${how} ${failure}`;
  },
};

interface Read {
  readonly replies: readonly Reply[];
  readonly failure: string;
}

function read(chunks: Iterable<Buffer>): Read {
  const reader = new ReplyReader(ID);
  const replies: Reply[] = [];
  const failure = lookAtFailure(() => {
    for (const chunk of chunks) for (const reply of reader.read(chunk)) replies.push(reply);
  });
  return { replies, failure };
}

function lookAtFailure(work: () => void): string {
  try {
    work();
    return '';
  } catch (error) {
    const code = codeOf(error, UmbraError);
    assert.match((error as UmbraError).message, PRINTABLE);
    return code;
  }
}

async function lookAt(reply: Reply): Promise<void> {
  if (reply.kind === 'error') assert.match(reply.words, PRINTABLE);
  const agent = { ask: async () => reply, close: () => {} };
  try {
    assert.ok(Number.isFinite(await guestTimeNs(agent)));
  } catch (error) {
    lookAtFailure(() => {
      throw error;
    });
  }
}
