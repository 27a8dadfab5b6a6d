/** Findings of `umbra doctor` on clusters: daemons, and the captures that VMs allow. */
import { restoreObstacles } from '../../proxy/agent/restores/dry-plan.ts';
import { replacedProgram } from '../../proxy/agent/restores/kept-program.ts';
import { saveImageObstacle } from '../../proxy/agent/vms/libvirt-pair.ts';
import { recordedVm } from '../../proxy/agent/vms/vm-process.ts';
import { DaemonClient } from '../../proxy/client/daemon-client.ts';
import { domainMemory } from '../../proxy/command-line/domain-memory.ts';
import { toFailure, UmbraError } from '../../proxy/failure/failure.ts';
import { backgroundObstacles } from '../../proxy/member/capture/background-support.ts';
import { precopyObstacle } from '../../proxy/member/capture/precopy-support.ts';
import { trackedObstacle } from '../../proxy/member/capture/tracked-support.ts';
import { readClock } from '../../proxy/member/guest-agent/clock.ts';
import { withGuestAgent } from '../../proxy/member/guest-agent/reach.ts';
import { examineVm, otherWriters } from '../../proxy/member/qemu/machine.ts';
import { requireReady } from '../../proxy/member/qemu/readiness.ts';
import { LARGE_QUEUES } from '../../proxy/member/qemu/virtio-queues.ts';
import { Ledger } from '../../proxy/member/tracking/ledger.ts';
import type { ClusterConfig, MemberConfig } from '../../proxy/protocol/cluster.ts';
import { QmpClient } from '../../qmp/index.ts';
import { clusterNames, storedConfig } from './home.ts';
import { duration } from './output.ts';

export type Verdict = 'ok' | 'note' | 'missing';

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  readonly fix: string | undefined;
}

/** Limit for an answer of a monitor or a daemon; a monitor that a round uses does not answer. */
const ANSWER_LIMIT_MS = 2_000;
/** Limit for an answer of a guest agent, which a busy guest may keep waiting. */
const AGENT_LIMIT_MS = 5_000;

/** Examines every cluster there is, its daemon and its members. Leaves every VM as it was. */
export async function clusterFindings(): Promise<Finding[]> {
  return (await Promise.all(clusterNames().map(examineCluster))).flat();
}

/** Examines one cluster, its daemon and its members. Leaves every VM as it was. */
export async function examineCluster(cluster: string): Promise<Finding[]> {
  try {
    const config = storedConfig(cluster);
    const members = config.members.map(async (member) => {
      const check = `${cluster}/${member.name}`;
      const vm = await examine(check, member, config.round);
      // One after the other: a monitor serves one client at a time.
      return config.restore.clock === 'keep' ? [vm] : [vm, await examineAgent(check, member)];
    });
    return (await Promise.all([examineDaemon(config).then((one) => [one]), ...members])).flat();
  } catch (error) {
    const { message, hint } = toFailure(error, {});
    return [{ check: cluster, verdict: 'note', found: message, fix: hint }];
  }
}

/** Asks the daemon a small question: it may hang, or be dead and have left its socket. */
async function examineDaemon({ cluster, directory }: ClusterConfig): Promise<Finding> {
  const check = `${cluster}: daemon`;
  let daemon: DaemonClient | undefined;
  try {
    daemon = new DaemonClient(cluster, directory, { answerLimitMs: ANSWER_LIMIT_MS });
    await daemon.ask('rounds', {});
    return { check, verdict: 'ok', found: 'answers', fix: undefined };
  } catch (error) {
    const { message, hint } = toFailure(error, {});
    return { check, verdict: 'note', found: message, fix: hint };
  } finally {
    await daemon?.close();
  }
}

/** Asks a guest's agent for the time, for restores that are to catch up clocks. */
async function examineAgent(name: string, member: MemberConfig): Promise<Finding> {
  const check = `${name}: guest agent`;
  const { qmp, directory, libvirt } = member;
  const workingDirectory = recordedVm(directory)?.workingDirectory ?? member.workingDirectory;
  const monitor = () => QmpClient.connect(qmp, { timeoutMs: ANSWER_LIMIT_MS });
  try {
    const { offMs } = await withGuestAgent(
      { libvirt, workingDirectory, monitor },
      AGENT_LIMIT_MS,
      (agent) => readClock(agent, Date.now),
    );
    const off = `${duration(Math.abs(offMs))} ${offMs < 0 ? 'behind' : 'ahead of'} the host’s`;
    return { check, verdict: 'ok', found: `answers; the guest’s clock is ${off}`, fix: undefined };
  } catch (error) {
    const { message, hint } = toFailure(error, {});
    return { check, verdict: 'note', found: message, fix: hint };
  }
}

/** Returns words for the operator of a VM that is tracked. */
function trackedNote(member: string): string {
  return `its writes are tracked: QEMU refuses background snapshots until: umbra untrack ${member}`;
}

async function examine(
  check: string,
  member: MemberConfig,
  { cut, disks, compareEmulated }: ClusterConfig['round'],
): Promise<Finding> {
  const { qmp: path, directory, libvirt } = member;
  let qmp: QmpClient | undefined;
  try {
    qmp = await QmpClient.connect(path, { timeoutMs: ANSWER_LIMIT_MS });
    await requireReady(qmp);
    const vm = recordedVm(directory);
    const workingDirectory = vm?.workingDirectory ?? member.workingDirectory;
    const { major, minor, micro } = qmp.version;
    const qemuVersion = `${major}.${minor}.${micro}`;
    const examined = { ...(await examineVm(qmp, workingDirectory)), qemuVersion };
    if (vm !== undefined) {
      const [first] = await restoreObstacles({ member, vm, examined }, disks);
      if (first !== undefined) throw UmbraError.received(first);
    }
    const writers = await otherWriters(qmp);
    const precopy = await precopyObstacle(qmp, { vm, compareEmulated });
    const background = await backgroundObstacles(qmp, {
      vm,
      cut,
      disks,
      workingDirectory,
      domainXml: libvirt && '',
    });
    const aboutVm = { vm, domainXml: libvirt && '', examined };
    const tracked = await trackedObstacle(qmp, aboutVm, { member: member.name, directory });
    const isTracked = vm !== undefined && new Ledger(directory).descriptorOf(vm) !== undefined;
    const memory = libvirt && vm && domainMemory(vm.commandLine);
    const replaced = vm && (await replacedProgram(vm, qemuVersion));
    const noImage = libvirt && (await saveImageObstacle(libvirt.uri, qemuVersion));
    const obstacles = [
      ...(writers.length === 0 ? [] : [`only background captures: ${writers.join(', ')}`]),
      ...(tracked === undefined ? [] : [`no tracked capture: ${tracked}`]),
      ...(isTracked ? [trackedNote(member.name)] : []),
      ...(precopy === undefined ? [] : [`no precopy: ${precopy}`]),
      ...background.map(({ message }) => `no background capture: ${message}`),
      ...(typeof memory === 'string' ? [`no restore by map: ${memory}`] : []),
      ...(noImage === undefined ? [] : [`restore by map only: ${noImage}`]),
      ...(replaced === undefined ? [] : [replaced]),
      ...(examined.machine.largeQueues ? [LARGE_QUEUES] : []),
    ];
    const found = obstacles.join('; ') || 'every capture works';
    const verdict = obstacles.length === 0 ? 'ok' : 'note';
    return { check, verdict, found, fix: undefined };
  } catch (error) {
    const { message, hint } = toFailure(error, {});
    return { check, verdict: 'note', found: message, fix: hint };
  } finally {
    qmp?.close();
  }
}
