/**
 * Stages of a member's round. Each holds what the ones before it have made, so that no step can be
 * given less than it needs:
 *
 *     MemberRound            from the beginning: the command, the journal, the session
 *       └▶ Admitted          the monitor, the reserved shadow, the chosen capture (admission.ts)
 *            └▶ Ready        QEMU's migration is set up (prepare-method.ts)
 *                 └▶ CaptureMethod   the stream is received; the VM stops and resumes (method.ts)
 *                      └▶ StreamResult   the stream is whole
 *                           └▶ SealedFacts   the shadow is final (seal.ts)
 *
 * A stream can be whole before or after its VM has stopped or resumed: session.ts keeps the order.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { Machine, OneShadow, StagingShadow } from '../../../shadow/index.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import type {
  CaptureMode,
  MemberLocation,
  PrepareCommand,
  RoundFacts,
} from '../../protocol/member.ts';
import type { SavedSettings } from '../qemu/migration-settings.ts';
import type { Journal } from '../repair/journal.ts';
import type { Tracking } from '../tracking/tracking.ts';
import type { LiveMeter } from './live-meter.ts';
import type { CaptureMethod } from './method.ts';
import type { SessionEvent } from './session.ts';
import type { TrackingStart } from './tracked-support.ts';

/** A member's round, from its beginning to its end. Implemented by capture.ts. */
export interface MemberRound {
  readonly location: MemberLocation;
  readonly prepare: PrepareCommand;
  readonly journal: Journal;
  readonly meter: LiveMeter;
  readonly facts: RoundFacts;
  /** State of its session (session.ts). */
  readonly state: number;
  /** Undefined before QEMU's migration is set up. */
  readonly method: CaptureMethod | undefined;
  /** The round has asked for the VM's stop, and the VM has not run since. */
  readonly stopAsked: boolean;

  /** Advances the session. */
  handle(event: SessionEvent): void;
  /** Fails the round, unless it is over for this member. */
  failed(where: string, error: unknown): void;
  /** Ends a step whose round is over. Called after every wait. @throws when it is over */
  throwIfOver(): void;
  /** Adds to the facts that are sent with reports. */
  addFacts(facts: RoundFacts): void;
  /** Notes, in the journal too, whether a stop of this round's is under way. */
  noteStop(stopping: boolean): void;
  /** Tells the coordinator how far the member is, if it is live. */
  sampleLive(): void;
  /** Takes the whole stream. */
  whole(result: StreamResult): void;
}

/** A member that can be captured, and has memory for its shadow. */
export interface Admitted {
  readonly monitor: QmpClient;
  readonly mode: CaptureMode;
  readonly shadow: StagingShadow;
  /** The sum of its RAM blocks. */
  readonly reservedBytes: number;
  readonly qemuVersion: string;
  /** Disks that the guest can write to. */
  readonly writableDisks: readonly string[];
  /** The machine, as QEMU has it. */
  readonly machine: Machine;
  /** Tracking of a VM that is captured by it, and the shadow that is stored against. */
  readonly tracking: Tracking | undefined;
  readonly parent: OneShadow | undefined;
  /** Tracking that begins with this capture, which is its base. */
  readonly begins: TrackingStart | undefined;
}

/** An admitted member whose QEMU is set up for a migration. */
export interface Ready extends Admitted {
  /** QEMU's settings as the operator had them. */
  readonly saved: SavedSettings;
}

/** Facts that are complete from a stage on. */
type Told<K extends keyof RoundFacts> = { readonly [P in K]-?: NonNullable<RoundFacts[P]> };

export type LiveFacts = Told<'liveBytes' | 'liveMs' | 'heldMs' | 'flow'>;
export type WholeFacts = Told<'drainMs' | 'passes' | 'repeatedPages'>;
export type SealedFacts = Told<'shadow' | 'storedBytes' | 'sealMs' | 'drainBytes'>;

/** Live phase of a VM that has stopped before it streamed. */
export const NO_LIVE_PHASE: LiveFacts = { liveBytes: 0, liveMs: 0, heldMs: 0, flow: [] };
