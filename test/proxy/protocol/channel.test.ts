/** Two ends of a channel in one process; what crosses is cloned, as between processes. */
import { deserialize, serialize } from 'node:v8';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as z from 'zod';
import { type Failure, UmbraError } from '../../../proxy/failure/failure.ts';
import { Channel, type Port } from '../../../proxy/protocol/channel.ts';
import { failureOf } from '../../support/failure-of.ts';

const test = suite('channel');
const CALLS = {
  double: { takes: z.number(), gives: z.number() },
  odd: { takes: z.undefined(), gives: z.string() },
  hang: { takes: z.undefined(), gives: z.undefined() },
  note: { takes: z.string() },
} as const;

let notes: string[] = [];
let misfits: Failure[] = [];
let ends: Wire[] = [];
let heard = 0;
/** The work of `odd`. */
let odd: () => unknown = () => 1;

class Wire implements Port {
  listener: (message: unknown) => void = () => {};
  other: Wire | undefined;

  post(message: unknown): void {
    const bytes = serialize(message);
    queueMicrotask(() => this.other?.listener(deserialize(bytes)));
  }

  onMessage(listener: (message: unknown) => void): void {
    this.listener = listener;
  }
}

function connected() {
  const [a, b] = [new Wire(), new Wire()];
  [a.other, b.other] = [b, a];
  ends = [a, b];
  new Channel(b, {
    remote: {},
    local: CALLS,
    handlers: {
      double: async (value) => {
        if (value < 0)
          throw UmbraError.received({ code: 'E_NEGATIVE', message: 'no', where: 'sign' });
        return 2 * value;
      },
      odd: async () => odd() as string,
      hang: () => new Promise<undefined>(() => {}),
      note: (text) => void notes.push(text),
    },
    context: { member: 'n0' },
    onMisfit: (failure) => misfits.push(failure),
  });
  return new Channel(a, {
    remote: CALLS,
    local: {},
    handlers: {},
    onHeard: () => heard++,
    onMisfit: (failure) => misfits.push(failure),
  });
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

test.before.each(() => {
  [notes, misfits, heard, odd] = [[], [], 0, () => 1];
});

test('a request is answered, whatever order the answers come in', async () => {
  const channel = connected();
  const answers = await Promise.all([1, 2, 3].map((value) => channel.call('double', value)));
  assert.equal(answers, [2, 4, 6]);
  assert.is(heard, 3);
});

test('messages arrive in their order, and before the answer to a later request', async () => {
  const channel = connected();
  for (const text of ['a', 'b', 'c']) channel.tell('note', text);
  await channel.call('double', 1);
  assert.equal(notes, ['a', 'b', 'c']);
});

test('a failure keeps its code, member, where and hint', async () => {
  const channel = connected();
  const failure = await failureOf(channel.call('double', -1));
  assert.equal(failure, { code: 'E_NEGATIVE', message: 'no', member: 'n0', where: 'sign' });
  odd = () => {
    throw Object.assign(new Error('full'), { code: 'E_BUDGET', missingBytes: 7 });
  };
  const full = await failureOf(channel.call('odd', undefined));
  assert.is(full.code, 'E_BUDGET');
  assert.is(full.where, 'odd');
  assert.is(full.missingBytes, 7);
  assert.ok(full.hint);
});

test('an argument that does not fit is refused by the side that receives it', async () => {
  const channel = connected();
  const failure = await failureOf(channel.call('double', 'two' as unknown as number));
  assert.is(failure.code, 'E_PROTOCOL');
  assert.match(failure.message, /double does not fit: .*expected number/);
});

test('so is an answer that does not fit', async () => {
  const channel = connected();
  const failure = await failureOf(channel.call('odd', undefined));
  assert.is(failure.code, 'E_PROTOCOL');
  assert.match(failure.message, /the answer to odd does not fit/);
});

test('an answer that cannot be sent is a failure, not silence', async () => {
  const channel = connected();
  odd = () => () => {};
  const failure = await failureOf(channel.call('odd', undefined));
  assert.match(failure.message, /could not be cloned/);
});

test('a message that does not fit is dropped, and reported', async () => {
  const channel = connected();
  channel.tell('note', 7 as unknown as string);
  channel.tell('note', 'after');
  await settled();
  assert.equal(notes, ['after']);
  assert.equal(
    misfits.map(({ code, where }) => [code, where]),
    [['E_PROTOCOL', 'note']],
  );
});

test('what is no message at all is reported, and harms nothing', async () => {
  const channel = connected();
  for (const junk of [undefined, null, 7, 'x', {}, { t: 'q' }, { t: 's', i: 4 }]) {
    ends[0]?.listener(junk);
    ends[1]?.listener(junk);
  }
  ends[1]?.listener({ t: 'q', i: 'x', m: 'constructor', a: [] });
  ends[0]?.listener({ t: 's', i: 'unknown', r: 1 });
  await settled();
  assert.is(misfits.length, 14);
  assert.is(await channel.call('double', 4), 8);
});

test('when the other side is gone, requests fail with the reason, now and later', async () => {
  const channel = connected();
  const waiting = failureOf(channel.call('hang', undefined));
  await settled();
  channel.close(new UmbraError({ code: 'E_PROXY_GONE', message: 'gone' }));
  assert.is((await waiting).code, 'E_PROXY_GONE');
  assert.is((await failureOf(channel.call('double', 1))).code, 'E_PROXY_GONE');
  channel.tell('note', 'lost'); // and is no error
  await settled();
});

test('requests can be refused, and others still be answered', async () => {
  const channel = connected();
  const waiting = failureOf(channel.call('hang', undefined));
  await settled();
  channel.refuse(new UmbraError({ code: 'E_PROXY_SILENT', message: 'silent' }));
  assert.is((await waiting).code, 'E_PROXY_SILENT');
  assert.is(await channel.call('double', 1), 2);
});

test.run();
