/**
 * How a member's state is got, from an opened stream to a VM that runs again: what differs between
 * the captures. The session says when (session.ts), the enactor calls (capture.ts).
 *
 *                       precopy               stop-copy          background
 *     before the stop   memory streams        –                  –
 *     stop              the drain             all of it          its state; frames are held first
 *     after the resume  –                     –                  memory, as it was
 */

import type { CaptureMode } from '../../protocol/member.ts';
import type { SplitMemory } from './huge-page-policy.ts';

/** While the member is LIVE. */
export interface LiveCapture {
  /** From time to time. */
  onTick(): Promise<void>;
  /** QEMU begins another pass over dirty memory. */
  onPass(): void;
  /** The end is near. */
  closeIn(): void;
}

export interface CaptureMethod {
  readonly mode: CaptureMode;
  /** The member has no live phase. */
  readonly waits: boolean;
  /** Ends with a stream, or ready for one. */
  open(): Promise<void>;
  /** Of a capture whose stream flows before the stop. */
  readonly live?: LiveCapture;
  stop(): Promise<void>;
  /** QEMU has stopped the VM, after we asked for it. */
  onStopped(): void;
  /** The VM runs; @returns true if that was to be, for this drive */
  onResumed(standing: boolean): boolean;
  resume(): Promise<void>;
  /** The stream is whole. Until QEMU has done with it. */
  complete(): Promise<void>;
  /**
   * The round is over for this member, its VM is about to be put right.
   * @returns settles when a stream that must not be broken off has ended, if there may be one
   */
  abandon(): Promise<void> | undefined;
  /** Nothing is done to QEMU from here. Idempotent. */
  end(): void;
  /** What the capture has done to huge pages of the VM, when it is over. */
  readonly split?: SplitMemory | undefined;
}
