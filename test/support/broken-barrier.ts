/**
 * An agent that breaks the barrier: it lets each member pass as soon as that member has stopped.
 * What a member reports from beyond the barrier is kept until all members have stopped, because the
 * round machine (proxy/coordinator/rounds/round.ts) expects no such report earlier, and the test is
 * to run the machine that is shipped.
 *
 *     member ── stopped ──▶ coordinator        member ── resumed, sealed ──▶ kept
 *            ◀── barrier ── this agent                   kept ── all have stopped ──▶ coordinator
 */
import { LocalAgent } from '../../proxy/agent/local-agent.ts';
import type { AgentNotice } from '../../proxy/protocol/agent.ts';

const BEYOND: ReadonlySet<string> = new Set(['resumed', 'sealed']);

export class BrokenBarrierAgent extends LocalAgent {
  override onNotice(listener: (notice: AgentNotice) => void): void {
    const letPass = (round: string, member: string) => this.command(round, member, 'barrier');
    const barrier = new BrokenBarrier(this.members, letPass, listener);
    super.onNotice((notice) => barrier.take(notice));
  }
}

export class BrokenBarrier {
  readonly #members: readonly string[];
  readonly #letPass: (round: string, member: string) => void;
  readonly #pass: (notice: AgentNotice) => void;
  readonly #stopped = new Set<string>();
  #round = '';
  #kept: AgentNotice[] = [];

  /**
   * @param letPass sends `barrier` to one member
   * @param pass gives a notice to the coordinator
   */
  constructor(
    members: readonly string[],
    letPass: (round: string, member: string) => void,
    pass: (notice: AgentNotice) => void,
  ) {
    this.#members = members;
    this.#letPass = letPass;
    this.#pass = pass;
  }

  /** Passes a notice on, or keeps it until all members have stopped. */
  take(notice: AgentNotice): void {
    if (notice.round !== this.#round) {
      this.#round = notice.round;
      this.#stopped.clear();
      this.#kept = [];
    }
    if (notice.type === 'report' && notice.report === 'stopped') {
      this.#letPass(notice.round, notice.member);
      this.#stopped.add(notice.member);
    }
    const allStopped = this.#members.every((member) => this.#stopped.has(member));
    const isEarly = notice.type === 'report' && BEYOND.has(notice.report) && !allStopped;
    if (isEarly) this.#kept.push(notice);
    else this.#pass(notice);
    if (allStopped) for (const kept of this.#kept.splice(0)) this.#pass(kept);
  }
}
