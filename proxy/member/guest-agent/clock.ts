/**
 * Brings a guest's clock forward to the host's. PURE.
 *
 *     guest-get-time ─▶ behind? ─▶ guest-set-time ─▶ guest-get-time
 *                         └── ahead: it is left, because programs rely on a clock that goes forward
 *
 * The agent sets its clock first and the hardware's then (hwclock), which takes seconds, or fails:
 * so the clock is looked at again, whatever the agent says.
 */
import { UmbraError } from '../../failure/failure.ts';
import { type GuestAgent, guestTimeNs, question } from './guest-agent.ts';

const NS_PER_MS = 1_000_000;
/** A clock that is off by less is not set a second time. */
const CLOSE_MS = 10;
/** An agent that takes longer to set the clock is not asked a second time. */
const QUICK_MS = 2_000;

/** The distance of the guest's clock to the host's. */
export interface ClockReading {
  /** The guest's less the host's, milliseconds. */
  readonly offMs: number;
  /** The most by which `offMs` may be wrong: half of the round trip, milliseconds. */
  readonly withinMs: number;
}

/** A clock that was brought forward. */
export interface ClockCaughtUp extends ClockReading {
  /** By how much it was behind before, milliseconds. */
  readonly behindMs: number;
}

/** Computes a reading: the guest's clock was read at some time between question and answer. */
export function readingOf(askedMs: number, guestNs: number, answeredMs: number): ClockReading {
  const offMs = guestNs / NS_PER_MS - (askedMs + answeredMs) / 2;
  return { offMs, withinMs: Math.abs(answeredMs - askedMs) / 2 };
}

/** @param nowMs the host's clock, milliseconds since 1970 */
export async function readClock(agent: GuestAgent, nowMs: () => number): Promise<ClockReading> {
  const askedMs = nowMs();
  const guestNs = await guestTimeNs(agent);
  return readingOf(askedMs, guestNs, nowMs());
}

/**
 * Brings the guest's clock forward.
 * @param nowMs the host's clock, milliseconds since 1970
 * @throws UmbraError E_GUEST_AGENT; E_GUEST_CLOCK: the agent answers, and the clock was not set
 */
export async function catchUp(agent: GuestAgent, nowMs: () => number): Promise<ClockCaughtUp> {
  const before = await readClock(agent, nowMs);
  const behindMs = -before.offMs;
  if (behindMs < -before.withinMs) {
    throw notSet(`it is ${Math.round(-behindMs)} ms ahead of the host’s`);
  }
  if (behindMs <= before.withinMs) return { ...before, behindMs };
  const { reply, tookMs, after } = await set(agent, nowMs);
  if (-after.offMs <= tookMs + after.withinMs) {
    // The first question in a new QEMU is slow, its code and its memory are cold: once more.
    const again = -after.offMs > CLOSE_MS && tookMs < QUICK_MS;
    return { ...(again ? (await set(agent, nowMs)).after : after), behindMs };
  }
  const still = `it is still ${Math.round(-after.offMs)} ms behind the host’s`;
  throw notSet(reply.kind === 'error' ? `${still}; the agent says ${reply.words}` : still);
}

/**
 * Sets the clock, and looks at it. It is behind by as long as the question was on its way, which
 * is not longer than the answer took.
 */
async function set(agent: GuestAgent, nowMs: () => number) {
  const setMs = nowMs();
  const reply = await agent.ask(question('guest-set-time', { time: nanoseconds(setMs) }));
  const tookMs = Math.abs(nowMs() - setMs);
  return { reply, tookMs, after: await readClock(agent, nowMs) };
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms)) * BigInt(NS_PER_MS);
}

function notSet(why: string): UmbraError {
  return new UmbraError({
    code: 'E_GUEST_CLOCK',
    message: `the guest’s clock was not set: ${why}`,
  });
}
