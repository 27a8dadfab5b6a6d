/**
 * The coordinator of a simulated round: the real round machine and the real live phase, enacted on
 * modelled members the way the real runner enacts them on proxies.
 */
import type { LiveDecision, LiveSample } from '../../policies/index.ts';
import {
  begin,
  COMMITTED,
  isOver,
  LIVE,
  type MemberCommand,
  type MemberMilestone,
  type Round,
  type RoundAction,
  type RoundEvent,
  type RoundStep,
  step,
} from '../../proxy/coordinator/rounds/round.ts';
import type { Events } from './events.ts';
import type { Call, LiveDecider } from './replay.ts';

/** The interval between two decisions of the live phase, milliseconds. */
const TICK_MS = 50;
const PUBLISH_MS = 5;

/** Ways of the coordinator to a member. */
export interface MemberCommands {
  readonly command: (member: string, command: MemberCommand) => void;
  readonly slot: (member: string, open: boolean) => void;
  readonly closeIn: (member: string) => void;
}

export class ModelledCoordinator {
  readonly #events: Events;
  readonly #live: LiveDecider;
  readonly #commands: MemberCommands;
  readonly #note: (call: Call) => void;
  #round: Round | undefined;
  #liveSinceMs = 0;
  #last: LiveDecision | undefined;

  /** @param note is told of every call into the coordinator's own code */
  constructor(
    events: Events,
    live: LiveDecider,
    commands: MemberCommands,
    note: (call: Call) => void,
  ) {
    this.#events = events;
    this.#live = live;
    this.#commands = commands;
    this.#note = note;
  }

  get isOver(): boolean {
    return this.#round !== undefined && isOver(this.#round);
  }

  get committed(): boolean {
    return this.#round?.state === COMMITTED;
  }

  get endReason(): string | undefined {
    return this.#round?.endReason;
  }

  /** Returns the decision that ended the live phase. */
  get last(): LiveDecision | undefined {
    return this.#last;
  }

  begin(members: readonly string[]): void {
    this.#apply(begin(members));
  }

  onReport(member: string, report: MemberMilestone): void {
    this.#handle({ type: 'report', member, report });
  }

  onSample(member: string, sample: LiveSample): void {
    if (this.#round?.state !== LIVE) return;
    this.#note({ kind: 'observe', member, sample });
    this.#live.observe(member, sample);
  }

  #look(): void {
    if (this.#round?.state !== LIVE) return;
    const elapsedMs = this.#events.nowMs - this.#liveSinceMs;
    this.#note({ kind: 'tick', elapsedMs });
    const decision = this.#live.tick(elapsedMs);
    this.#last = decision;
    for (const member of decision.hold) this.#commands.slot(member, false);
    for (const member of decision.flow) this.#commands.slot(member, true);
    for (const member of decision.closeIn) this.#commands.closeIn(member);
    if (decision.end.end) this.#handle({ type: 'end', reason: decision.end.reason });
    else this.#events.after(TICK_MS, () => this.#look());
  }

  #handle(event: RoundEvent): void {
    if (this.#round === undefined) return;
    this.#note({ kind: 'step', event });
    this.#apply(step(this.#round, event));
  }

  #apply({ round, actions }: RoundStep): void {
    const wasLive = this.#round?.state === LIVE;
    this.#round = round;
    for (const action of actions) this.#enact(action);
    if (wasLive || this.#round?.state !== LIVE) return;
    this.#liveSinceMs = this.#events.nowMs;
    this.#look();
  }

  #enact(action: RoundAction): void {
    if (action.type === 'command') this.#commands.command(action.member, action.command);
    if (action.type === 'publish') {
      this.#events.after(PUBLISH_MS, () => this.#handle({ type: 'published' }));
    }
  }
}
