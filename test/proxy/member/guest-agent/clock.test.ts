import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import { catchUp, readClock, readingOf } from '../../../../proxy/member/guest-agent/clock.ts';
import type { GuestAgent } from '../../../../proxy/member/guest-agent/guest-agent.ts';
import type { Reply } from '../../../../proxy/member/guest-agent/replies.ts';

const test = suite('guest clock');
const NOW_MS = 1_900_000_000_000;

interface GuestOptions {
  /** The guest's clock less the host's at first. */
  readonly offMs: number;
  /** Time that a question or an answer is on its way. */
  readonly wayMs?: number;
  /** Further time of the first question to set the clock. */
  readonly coldMs?: number;
  /** Time from setting the clock to the answer: hwclock. */
  readonly setMs?: number;
  /** The answer to guest-set-time. */
  readonly setReply?: Reply;
  readonly sets?: boolean;
}

/** Simulates a host and a guest with an agent: time passes only while a question is answered. */
class Guest implements GuestAgent {
  readonly asked: string[] = [];
  readonly #options: GuestOptions;
  #hostMs = NOW_MS;
  #offMs: number;

  constructor(options: GuestOptions) {
    this.#options = options;
    this.#offMs = options.offMs;
  }

  get offMs(): number {
    return this.#offMs;
  }

  nowMs = (): number => this.#hostMs;

  async ask(text: string): Promise<Reply> {
    const { execute, arguments: values } = JSON.parse(text);
    this.asked.push(execute);
    const { wayMs = 2, setMs = 0, coldMs = 0, sets = true, setReply } = this.#options;
    this.#hostMs += wayMs;
    let reply: Reply = { kind: 'return', value: (this.#hostMs + this.#offMs) * 1e6 };
    if (execute === 'guest-set-time') {
      reply = setReply ?? { kind: 'return', value: {} };
      if (this.asked.filter((one) => one === execute).length === 1) this.#hostMs += coldMs;
      if (sets) this.#offMs = values.time / 1e6 - this.#hostMs;
      this.#hostMs += setMs;
    }
    this.#hostMs += wayMs;
    return reply;
  }

  close(): void {}
}

async function failureOf(guest: Guest): Promise<string> {
  try {
    await catchUp(guest, guest.nowMs);
  } catch (error) {
    if (error instanceof UmbraError) return `${error.code} ${error.message}`;
    throw error;
  }
  throw new Error('it was caught up');
}

const guestIsClose = ({ offMs }: Guest, mostMs: number) => offMs <= 0 && -offMs <= mostMs;
const close = (found: number, wanted: number) => Math.abs(found - wanted) < 0.01;

test('a reading is off by half of the round trip at most', () => {
  for (const atMs of [1000, 1003, 1010]) {
    const { offMs, withinMs } = readingOf(1000, (atMs - 250) * 1e6, 1010);
    assert.is(withinMs, 5);
    assert.ok(Math.abs(offMs - -250) <= withinMs, `${offMs}`);
  }
});

test('a clock is read without being changed', async () => {
  const guest = new Guest({ offMs: -500 });
  const { offMs, withinMs } = await readClock(guest, guest.nowMs);
  assert.ok(close(offMs, -500));
  assert.is(withinMs, 2);
  assert.equal(guest.asked, ['guest-get-time']);
});

test('a clock that lags is set, and is never ahead of the host’s afterwards', async () => {
  for (const wayMs of [0, 2, 400]) {
    const guest = new Guest({ offMs: -86_400_000, wayMs, setMs: 1500 });
    const { behindMs, offMs } = await catchUp(guest, guest.nowMs);
    assert.ok(close(behindMs, 86_400_000));
    assert.ok(close(offMs, guest.offMs));
    assert.ok(guest.offMs <= 0 && guest.offMs >= -wayMs, `${guest.offMs}`);
  }
});

test('an agent that was slow at first is asked once more, if that is quick', async () => {
  const cold = new Guest({ offMs: -60_000, coldMs: 100 });
  await catchUp(cold, cold.nowMs);
  assert.ok(guestIsClose(cold, 2), `${cold.offMs}`);
  const slow = new Guest({ offMs: -60_000, coldMs: 100, setMs: 2500 });
  await catchUp(slow, slow.nowMs);
  assert.ok(guestIsClose(slow, 102), `${slow.offMs}`);
  assert.is(slow.asked.filter((one) => one === 'guest-set-time').length, 1);
});

test('a clock that is ahead is left: no program sees time go back', async () => {
  const guest = new Guest({ offMs: 7_200_000 });
  assert.match(await failureOf(guest), /^E_GUEST_CLOCK .*7200000 ms ahead/);
  assert.equal(guest.asked, ['guest-get-time']);
});

test('a clock that is right is left', async () => {
  const guest = new Guest({ offMs: 1 });
  await catchUp(guest, guest.nowMs);
  assert.equal(guest.asked, ['guest-get-time']);
});

test('a clock that was set counts, though the hardware’s could not be set', async () => {
  const setReply = { kind: 'error', words: '"hwclock failed"' } as const;
  const guest = new Guest({ offMs: -60_000, setReply });
  const { offMs } = await catchUp(guest, guest.nowMs);
  assert.ok(Math.abs(offMs) < 10);
});

test('an agent that may not set the clock, or says that it has, is found out', async () => {
  const setReply = { kind: 'error', words: '"disabled"' } as const;
  const refusing = new Guest({ offMs: -60_000, sets: false, setReply });
  const refused = await failureOf(refusing);
  assert.match(refused, /^E_GUEST_CLOCK .* still 60000 ms behind .*"disabled"/);
  const lying = new Guest({ offMs: -60_000, sets: false });
  assert.match(await failureOf(lying), /^E_GUEST_CLOCK .* still 60000 ms behind/);
});

test('a time that is none is refused', async () => {
  for (const value of [undefined, null, '17', {}, 'x'.repeat(10_000)]) {
    const guest = new Guest({ offMs: 0 });
    guest.ask = async () => ({ kind: 'return', value });
    const message = await failureOf(guest);
    assert.match(message, 'E_GUEST_AGENT the guest agent gives the time as');
    assert.ok(message.length < 200);
  }
});

test.run();
