/**
 * Restores an epoch that a relay kept into a member of this cluster: the same VM, alone.
 *
 *     store     reads and checks the shadow, where the relay keeps it
 *     cluster   says how the VM is started, which no relay knows: the XML that was given or that
 *               libvirt has of the domain, or the command line of the member
 */
import { join } from 'node:path';
import { type EpochManifest, openShadow } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { clusterFolder } from '../../host/folders.ts';
import type { Agent, RelayedOrigin, RestoringAgent } from '../../protocol/agent.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';
import { domainXml } from '../vms/libvirt-vm.ts';
import { recordedVm } from '../vms/vm-process.ts';
import { requireMember } from './members.ts';
import { planShadow } from './plan.ts';

type Described = Readonly<{
  commandLine: string[];
  workingDirectory: string;
  domainXml?: string;
}>;

/**
 * Returns an agent that reads shadows of a relay's store. The epoch it is given names the member of
 * the cluster; in the store it is the VM's.
 */
export function relayedAgent(
  cluster: Omit<RestoringAgent, 'verify' | 'planRestore'>,
  verify: Agent['verify'],
  { store, vm, xml }: RelayedOrigin,
  config: ClusterConfig,
): RestoringAgent {
  const inStore = (epoch: EpochManifest): EpochManifest => {
    return { ...epoch, members: epoch.members.map((member) => ({ ...member, name: vm })) };
  };
  return {
    verify: (epoch, mode) => verify(inStore(epoch), mode),
    planRestore: ({ round, members }, choices) => {
      return Promise.all(
        members.map(async (epochMember) => {
          const { name } = epochMember;
          try {
            const directory = join(clusterFolder(store, 'shadows'), round, vm);
            const shadow = await openShadow(directory, epochMember.shadow);
            const { manifest } = shadow;
            const member = requireMember(config, name);
            const identity = { ...manifest.identity, ...(await describe(member, xml)) };
            const described = { ...shadow, manifest: { ...manifest, member: name, identity } };
            return await planShadow(config, member, described, epochMember, choices);
          } catch (error) {
            throw UmbraError.received(toFailure(error, { member: name, where: 'plan' }), error);
          }
        }),
      );
    },
    alivePids: () => cluster.alivePids(),
    rehearse: (plans) => cluster.rehearse(plans),
    killVm: (member) => cluster.killVm(member),
    beginRestore: () => cluster.beginRestore(),
    endRestore: (how) => cluster.endRestore(how),
    load: (plan) => cluster.load(plan),
    resume: (member) => cluster.resume(member),
    catchUpClock: (member) => cluster.catchUpClock(member),
  };
}

/** Returns how a member is started. @throws UmbraError E_LIBVIRT_XML, E_COMMAND_LINE */
async function describe(member: MemberConfig, xml: string | undefined): Promise<Described> {
  const { libvirt, command, directory, workingDirectory } = member;
  if (libvirt !== undefined) {
    return { commandLine: [], workingDirectory: '/', domainXml: xml ?? (await knownXml(libvirt)) };
  }
  if (xml !== undefined) {
    const message = `${member.name} is no domain of libvirt: its command line counts, not its XML`;
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message, hint: 'Leave --xml out.' });
  }
  const recorded = recordedVm(directory);
  if (recorded !== undefined) {
    return { commandLine: recorded.commandLine, workingDirectory: recorded.workingDirectory };
  }
  if (command !== undefined) return { commandLine: [...command], workingDirectory };
  const message = 'no command line is known: a relay keeps none, and this VM has not run here';
  const hint = 'Give the member a command in cluster.yaml.';
  throw new UmbraError({ code: 'E_COMMAND_LINE', message, hint });
}

async function knownXml(libvirt: NonNullable<MemberConfig['libvirt']>): Promise<string> {
  try {
    return await domainXml(libvirt);
  } catch (error) {
    const { message: why } = toFailure(error, {});
    const message = `a relay keeps no domain XML, and libvirt has none: ${why}`;
    const hint = 'Give it: --xml FILE, as virsh dumpxml --migratable has printed it; or define it.';
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message, hint }, error);
  }
}
