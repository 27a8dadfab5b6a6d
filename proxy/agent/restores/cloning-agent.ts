/**
 * Restores an epoch of one cluster into the members of another, which is its clone:
 *
 *     source   reads and checks the shadows, and plans as it would for itself
 *     clone    starts QEMU, in its own folders, with command lines derived from the planned ones
 *
 * The source's VMs, folders and sockets are not touched. A mapped image is marked as such in its
 * shadow's folder, as by any restore, so its memory is never written again.
 */
import { cloneCommandLine } from '../../command-line/clone.ts';
import { cloneOptions } from '../../config/clone-config.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { Agent, CloneOrigin, RestoringAgent } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import { requireMember } from './members.ts';

/**
 * Returns an agent that plans with the source's shadows and starts VMs of the clone.
 * @param config the clone's
 */
export function cloningAgent(
  clone: Omit<RestoringAgent, 'verify' | 'planRestore'>,
  source: Pick<Agent, 'verify' | 'planRestore'>,
  origin: CloneOrigin,
  config: ClusterConfig,
): RestoringAgent {
  return {
    verify: (epoch, mode) => source.verify(epoch, mode),
    planRestore: async (epoch, choices) => {
      const plans = await source.planRestore(epoch, choices);
      return plans.map((plan) => {
        const { member, workingDirectory } = plan;
        const options = { ...cloneOptions(origin, config.cluster), workingDirectory };
        const { directory, command } = requireMember(config, member);
        const cloned = (line: readonly string[]) =>
          cloneCommandLine(line, { ...options, directory }).commandLine;
        try {
          const commandLine = cloned(plan.commandLine);
          const byStream = plan.byStream && cloned(plan.byStream);
          const recorded = command && { recordedCommandLine: command };
          return { ...plan, commandLine, byStream, ...recorded };
        } catch (error) {
          throw UmbraError.received(toFailure(error, { member, where: 'clone' }), error);
        }
      });
    },
    alivePids: () => clone.alivePids(),
    rehearse: (plans) => clone.rehearse(plans),
    killVm: (member) => clone.killVm(member),
    beginRestore: () => clone.beginRestore(),
    endRestore: (how) => clone.endRestore(how),
    load: (plan) => clone.load(plan),
    resume: (member) => clone.resume(member),
    catchUpClock: (member) => clone.catchUpClock(member),
  };
}
