/**
 * The guests' wall clocks after a restore: how far they lag, and what became of those that were to
 * be caught up.
 *
 *     cut ──────── the guest's clock stands still ────────▶ RESUME ──▶ guest agents set it, at once
 *      └ QEMU's STOP, in the epoch's manifest                   └ QEMU's own time stamp
 *
 * A clock that is not caught up is a note of the report: the VMs run, and stay.
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import { toFailure } from '../../failure/failure.ts';
import type { MemberRestored, RestoringAgent } from '../../protocol/agent.ts';

type Clock = Pick<
  MemberRestored,
  'clockLagMs' | 'clock' | 'clockOffMs' | 'clockWithinMs' | 'clockFailure'
>;

/** Code of a guest without an agent, or whose agent does not answer. */
const NO_AGENT = 'E_GUEST_AGENT';

/**
 * Returns how far each guest's clock has fallen behind the host's by a restore, milliseconds, by
 * member. It is negative if the host's clock was set back since the cut by more than the epoch's
 * age. A member whose epoch does not say when it was cut is left out.
 * @param resumes microseconds since 1970, by member
 */
export function clockLags(
  { members }: Pick<EpochManifest, 'members'>,
  resumes: ReadonlyMap<string, number>,
): Map<string, number> {
  return new Map(
    members.flatMap(({ name, stoppedAtUs }) => {
      const resumedAtUs = resumes.get(name);
      if (stoppedAtUs === undefined || resumedAtUs === undefined) return [];
      return [[name, (resumedAtUs - stoppedAtUs) / 1000] as const];
    }),
  );
}

/** Catches up a member's clock. Never rejects. */
export async function catchUpClock(agent: RestoringAgent, member: string): Promise<Clock> {
  try {
    const { offMs, withinMs } = await agent.catchUpClock(member);
    return { clock: 'caught-up', clockOffMs: offMs, clockWithinMs: withinMs };
  } catch (error) {
    const clockFailure = toFailure(error, { member, where: 'catch up clock' });
    return { clock: clockFailure.code === NO_AGENT ? 'no-agent' : 'kept', clockFailure };
  }
}

/**
 * Returns the largest difference between clocks that were caught up, milliseconds; undefined for
 * less than two.
 */
export function clockSpreadMs(clocks: readonly Clock[]): number | undefined {
  const offs = clocks.flatMap(({ clockOffMs }) => clockOffMs ?? []);
  return offs.length < 2 ? undefined : Math.max(...offs) - Math.min(...offs);
}
