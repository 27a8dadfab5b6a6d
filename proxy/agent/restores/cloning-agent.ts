/**
 * Restores an epoch of one cluster into the members of another, which is its clone:
 *
 *     source   reads and checks the shadows, and plans as it would for itself
 *     clone    starts QEMU, in its own folders, with command lines derived from the planned ones
 *
 * The source's VMs, folders and sockets are not touched. A mapped image is marked as such in its shadow's
 * folder, as by any restore, so its memory is never written again.
 */

import { cloneCommandLine } from '../../command-line/clone.ts';
import { cloneOptions } from '../../config/clone-config.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { Agent, CloneOrigin, RestoringAgent } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';

export function cloningAgent(
  clone: Omit<RestoringAgent, 'verify' | 'planRestore'>,
  source: Pick<Agent, 'verify' | 'planRestore'>,
  origin: CloneOrigin,
  config: ClusterConfig,
): RestoringAgent {
  return {
    verify: (epoch, mode) => source.verify(epoch, mode),
    planRestore: async (epoch, mode) => {
      const plans = await source.planRestore(epoch, mode);
      return plans.map((plan) => {
        const { member, workingDirectory } = plan;
        const options = { ...cloneOptions(origin, config.cluster), workingDirectory };
        const { directory, command } = memberOf(config, member);
        try {
          const line = cloneCommandLine(plan.commandLine, { ...options, directory });
          const { commandLine } = line;
          return { ...plan, commandLine, ...(command && { recordedCommandLine: command }) };
        } catch (error) {
          throw new UmbraError(toFailure(error, { member, where: 'clone' }), error);
        }
      });
    },
    alivePids: () => clone.alivePids(),
    killVm: (member) => clone.killVm(member),
    beginRestore: () => clone.beginRestore(),
    endRestore: (how) => clone.endRestore(how),
    load: (plan) => clone.load(plan),
    resume: (member) => clone.resume(member),
  };
}

function memberOf({ members }: ClusterConfig, name: string) {
  const member = members.find((one) => one.name === name);
  if (member !== undefined) return member;
  const message = `the epoch has a member ${name}, this clone has not`;
  throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, member: name });
}
