/**
 * The gate of a member's migration stream: read it now, or hold it? PURE.
 *
 * The stream is read while nothing holds it:
 *
 *     slot       the coordinator decides whose stream may flow now (time multiplexing)
 *     pace       the member rests for a moment between two passes (pacing.ts)
 *     kept back  the first pass is nearly done, and QEMU would switch over at its end
 *     full       the live limit is reached
 *
 *     stage      held by                        left by
 *     LIVE       slot, pace, kept back, full    released, draining
 *     RELEASED   full                           draining
 *     DRAINING   nothing                        –
 *
 * RELEASED is entered when the VM is about to stop: slots and pacing are over, the live limit
 * still holds. DRAINING is entered when the VM has stopped.
 *
 * Holding the stream stalls only QEMU's migration thread, and only while the VM runs. Once the VM
 * has stopped, an unread stream blocks QEMU's monitor. The stream of a stopped VM is therefore
 * never held.
 */
export type GateEvent =
  | 'slot-opens'
  | 'slot-closes'
  | 'pace-on'
  | 'pace-off'
  | 'kept-back'
  | 'limit-reached'
  | 'released'
  | 'draining';

export interface Gate {
  readonly stage: 'live' | 'released' | 'draining';
  readonly slotOpen: boolean;
  readonly paced: boolean;
  readonly keptBack: boolean;
  readonly full: boolean;
}

/** A gate as it is at first: live, its slot closed. */
export const NEW_GATE: Gate = {
  stage: 'live',
  slotOpen: false,
  paced: false,
  keptBack: false,
  full: false,
};

/** Advances a gate. An event that means nothing in its stage changes nothing. */
export function turn(gate: Gate, event: GateEvent): Gate {
  switch (event) {
    case 'slot-opens':
      return { ...gate, slotOpen: true };
    case 'slot-closes':
      return { ...gate, slotOpen: false };
    case 'pace-on':
      return { ...gate, paced: true };
    case 'pace-off':
      return { ...gate, paced: false };
    case 'kept-back':
      return gate.stage === 'live' ? { ...gate, keptBack: true } : gate;
    case 'limit-reached':
      return { ...gate, full: true };
    case 'released':
      return gate.stage === 'live' ? { ...gate, stage: 'released' } : gate;
    case 'draining':
      return { ...gate, stage: 'draining' };
  }
}

/** Returns true if the stream is to be read, false if it is to be held. */
export function reads({ stage, slotOpen, paced, keptBack, full }: Gate): boolean {
  switch (stage) {
    case 'live':
      return slotOpen && !paced && !keptBack && !full;
    case 'released':
      return !full;
    case 'draining':
      return true;
  }
}
