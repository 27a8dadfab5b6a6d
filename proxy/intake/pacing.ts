/**
 * Paces a member that has sent its memory once and waits for others. PURE: `step(pacing, event)`
 * says what comes next; proxy/member/capture/pacing.ts enacts it on QEMU, tools/sim on a model.
 *
 * Left alone, QEMU goes through passes as fast as it can: thousands a second when there is nothing
 * to send.
 *
 *     last page has arrived ──▶ the stream rests: the event of the next pass takes longer to
 *                               arrive than QEMU takes for thousands of passes
 *
 *     a pass begins ──▶ the stream rests, QEMU is asked what the pass has found
 *                         ├─ much            ──▶ it flows at once
 *                         ├─ next to nothing ──▶ QEMU trickles (a pass in 100 ms) until one
 *                         │                      finds much
 *                         └─ QEMU cannot trickle ──▶ it rests for 100 ms
 *
 *     kept back: a QEMU without switchover-ack (before 8.1) would switch over by itself when it has
 *     next to nothing left. Its stream is held with a little of the first pass unsent, and it
 *     trickles, so that it does not get there by way of the socket's buffer.
 *
 *     closing in: no QEMU trickles, for one that sleeps in its rate limit would be late for the
 *     stop. A member whose pass finds next to nothing waits on its full socket, ready at once: for
 *     good if its guest is quiet, else for a moment, one pass at a time.
 */

/** A pass with less to send is over in a moment, bytes. */
export const LITTLE_BYTES = 2 ** 20;
/**
 * A guest that writes more slowly rests until the stop when its member closes in: what it writes
 * until then takes less time to send than a stop takes.
 */
const QUIET_BYTES_PER_SECOND = 4 * 2 ** 20;
/** The rest after a pass that found next to nothing, while closing in, milliseconds. */
const CLOSE_IN_REST_MS = 15;
/** The rest between two passes of a QEMU that cannot trickle, milliseconds. */
const PASS_GAP_MS = 100;

export type PacingEvent =
  /** A pass after the first begins. */
  | { readonly type: 'pass' }
  /** QEMU has answered `ask`, or cannot. */
  | {
      readonly type: 'asked';
      /** Bytes the present pass found dirty; undefined if QEMU has not said. */
      readonly passBytes: number | undefined;
      /** Bytes a second that the guest writes, as passes have shown. */
      readonly dirtyRate: number;
    }
  /** QEMU has answered a `trickle` that was to be confirmed, or cannot. */
  | { readonly type: 'confirmed' }
  /** The last page of the first pass has arrived. */
  | { readonly type: 'all-seen' }
  /** The stream is held near the end of the first pass. */
  | { readonly type: 'kept-back' }
  /** QEMU has said how much is left, bytes. */
  | { readonly type: 'news'; readonly remainingBytes: number }
  /** The end of the live phase is near. */
  | { readonly type: 'close-in' }
  /** The time of the last `rest` is over. */
  | { readonly type: 'rested' }
  /** Nothing more may be done to QEMU. */
  | { readonly type: 'end' };

export type PacingAction =
  /** Hold the stream, or no longer. */
  | { readonly type: 'pace'; readonly rests: boolean }
  /** Ask QEMU what the pass has found, then feed `asked`. */
  | { readonly type: 'ask' }
  /** Tell the coordinator how far the member is. */
  | { readonly type: 'sample' }
  /** Slow QEMU down, or no longer; if `confirm`, feed `confirmed` when it has answered. */
  | { readonly type: 'trickle'; readonly slow: boolean; readonly confirm: boolean }
  /** Feed `rested` after so long, unless another `rest` or a `stop-resting` comes first. */
  | { readonly type: 'rest'; readonly ms: number }
  | { readonly type: 'stop-resting' };

export interface Pacing {
  /** QEMU looks for dirty pages even when it is slowed (since 8.2). */
  readonly canTrickle: boolean;
  /** QEMU has been told to trickle. */
  readonly trickles: boolean;
  /** A pass has begun, and its question or the command that follows it is still open. */
  readonly asking: boolean;
  readonly keptBack: boolean;
  readonly closingIn: boolean;
  readonly over: boolean;
}

export interface PacingStep {
  readonly pacing: Pacing;
  readonly actions: readonly PacingAction[];
}

/** Returns the pacing of a member whose first pass has begun. */
export function newPacing(canTrickle: boolean): Pacing {
  return {
    canTrickle,
    trickles: false,
    asking: false,
    keptBack: false,
    closingIn: false,
    over: false,
  };
}

const REST: PacingAction = { type: 'pace', rests: true };
const FLOW: PacingAction = { type: 'pace', rests: false };

/** Advances a pacing. An event that means nothing in its state changes nothing. */
export function step(pacing: Pacing, event: PacingEvent): PacingStep {
  switch (event.type) {
    case 'pass':
      if (pacing.asking || pacing.over) return to(pacing);
      return to({ ...pacing, asking: true }, { type: 'stop-resting' }, REST, { type: 'ask' });
    case 'asked':
      return asked(pacing, event);
    case 'confirmed':
      return pacing.asking ? to({ ...pacing, asking: false }, FLOW) : to(pacing);
    case 'all-seen': {
      const { asking, trickles, closingIn, over } = pacing;
      if (asking || trickles || closingIn || over) return to(pacing);
      // The rest ends by itself, should the event of the pass have come before the page.
      return to(pacing, REST, { type: 'rest', ms: PASS_GAP_MS });
    }
    case 'kept-back':
      return setTrickle({ ...pacing, keptBack: true }, true);
    case 'news':
      // A QEMU that trickles though there is much to send would do so for ever.
      if (pacing.keptBack || event.remainingBytes < LITTLE_BYTES) return to(pacing);
      return setTrickle(pacing, false);
    case 'close-in':
      return setTrickle({ ...pacing, closingIn: true }, false);
    case 'rested':
      return pacing.over ? to(pacing) : to(pacing, FLOW);
    case 'end':
      return to({ ...pacing, over: true }, { type: 'stop-resting' });
  }
}

function asked(pacing: Pacing, event: PacingEvent & { type: 'asked' }): PacingStep {
  if (!pacing.asking) return to(pacing);
  const { closingIn, canTrickle, over } = pacing;
  // Closing in, passes come as fast as they can: the samples of every tick are enough then.
  const sample: PacingAction[] = closingIn ? [] : [{ type: 'sample' }];
  const answered = { ...pacing, asking: false };
  if (over) return to(answered, ...sample);
  if (!canTrickle) return to(answered, ...sample, { type: 'rest', ms: PASS_GAP_MS });
  const little = event.passBytes !== undefined && event.passBytes < LITTLE_BYTES;
  if (little && closingIn) {
    const isQuiet = event.dirtyRate < QUIET_BYTES_PER_SECOND;
    return isQuiet ? to(answered) : to(answered, { type: 'rest', ms: CLOSE_IN_REST_MS });
  }
  if (little === pacing.trickles) return to(answered, ...sample, FLOW);
  // QEMU flows again only when it has taken the command: a pass takes it less time.
  const trickle: PacingAction = { type: 'trickle', slow: little, confirm: true };
  return to({ ...pacing, trickles: little }, ...sample, trickle);
}

function setTrickle(pacing: Pacing, slow: boolean): PacingStep {
  const wanted = slow && !pacing.closingIn;
  if (pacing.over || wanted === pacing.trickles) return to(pacing);
  const trickle: PacingAction = { type: 'trickle', slow: wanted, confirm: false };
  return to({ ...pacing, trickles: wanted }, trickle);
}

function to(pacing: Pacing, ...actions: readonly PacingAction[]): PacingStep {
  return { pacing, actions };
}
