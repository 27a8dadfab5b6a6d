/** Reaches the guest agent of a member's VM, whichever program started the VM. */
import { randomInt } from 'node:crypto';
import type { QmpClient } from '../../../qmp/index.ts';
import type { LibvirtDomain } from '../../protocol/cluster.ts';
import { Conversation } from './conversation.ts';
import { DomainAgent } from './domain-agent.ts';
import type { GuestAgent } from './guest-agent.ts';
import { agentSocket } from './port.ts';

/** The largest number that `randomInt` draws below. */
const NUMBER_MAX = 2 ** 48 - 1;

export interface AgentLocation {
  readonly libvirt: LibvirtDomain | undefined;
  /** QEMU's working directory: the path of a socket may be relative to it. */
  readonly workingDirectory: string;
  /** Opens the monitor of a VM that libvirt does not run. */
  readonly monitor: () => Promise<QmpClient>;
}

/**
 * Uses the guest agent of a VM, and hangs up.
 * @param answerMs limit of each answer
 * @throws UmbraError E_GUEST_AGENT; QmpError, LibvirtError; what `use` throws
 */
export async function withGuestAgent<T>(
  location: AgentLocation,
  answerMs: number,
  use: (agent: GuestAgent) => Promise<T>,
): Promise<T> {
  const agent = await reach(location, answerMs);
  try {
    return await use(agent);
  } finally {
    agent.close();
  }
}

async function reach(location: AgentLocation, answerMs: number): Promise<GuestAgent> {
  if (location.libvirt !== undefined) return DomainAgent.open(location.libvirt, answerMs);
  const qmp = await location.monitor();
  let path: string;
  try {
    path = await agentSocket(qmp, location.workingDirectory);
  } finally {
    qmp.close(); // it serves one client at a time, and the agent may take long
  }
  return Conversation.begin(path, randomInt(NUMBER_MAX), answerMs);
}
