/** Which captures the VMs on this host allow, each asked itself: what stands in the way is told. */

import { recordedVm } from '../../proxy/agent/vms/vm-process.ts';
import { domainMemory } from '../../proxy/command-line/domain-memory.ts';
import { toFailure } from '../../proxy/failure/failure.ts';
import { backgroundObstacles } from '../../proxy/member/capture/background-support.ts';
import { precopyObstacle } from '../../proxy/member/capture/precopy-support.ts';
import { requireReady } from '../../proxy/member/qemu/readiness.ts';
import type { ClusterConfig, MemberConfig } from '../../proxy/protocol/cluster.ts';
import { QmpClient } from '../../qmp/index.ts';
import { clusterNames, storedConfig } from './home.ts';

export type Verdict = 'ok' | 'note' | 'missing';

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  readonly fix: string | undefined;
}

/** A monitor that is in use, by a round say, does not answer. */
const ANSWER_LIMIT_MS = 2_000;

/** One finding a member of every cluster there is. Leaves every VM as it was. */
export async function memberFindings(): Promise<Finding[]> {
  const found = clusterNames().map((cluster) => {
    const { members, round } = storedConfig(cluster);
    return Promise.all(
      members.map((member) => examine(`${cluster}/${member.name}`, member, round)),
    );
  });
  return (await Promise.all(found)).flat();
}

async function examine(
  check: string,
  { qmp: path, directory, workingDirectory, libvirt }: MemberConfig,
  { cut, disks, compareEmulated }: ClusterConfig['round'],
): Promise<Finding> {
  let qmp: QmpClient | undefined;
  try {
    qmp = await QmpClient.connect(path, { timeoutMs: ANSWER_LIMIT_MS });
    await requireReady(qmp);
    const vm = recordedVm(directory);
    const precopy = await precopyObstacle(qmp, { vm, compareEmulated });
    const background = await backgroundObstacles(qmp, {
      ...{ vm, cut, disks },
      workingDirectory: vm?.workingDirectory ?? workingDirectory,
      domainXml: libvirt && '',
    });
    const memory = libvirt && vm && domainMemory(vm.commandLine);
    const obstacles = [
      ...(precopy === undefined ? [] : [`no precopy: ${precopy}`]),
      ...background.map(({ message }) => `no background capture: ${message}`),
      ...(typeof memory === 'string' ? [`no restore by map: ${memory}`] : []),
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
