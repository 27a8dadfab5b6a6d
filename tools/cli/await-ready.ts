/** Waits until every member's VM answers: QEMU does not announce its monitor. */
import { setTimeout as delay } from 'node:timers/promises';
import type { DaemonClient } from '../../proxy/client/daemon-client.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';

const DEADLINE_MS = 20_000;
const POLL_MS = 50;

/** Polls the daemon. @throws UmbraError E_VM_START, naming the first member that does not answer */
export async function awaitReady(daemon: DaemonClient): Promise<ClusterStatus> {
  const end = performance.now() + DEADLINE_MS;
  for (;;) {
    const status = await daemon.ask('status', {});
    const waiting = status.members.filter((member) => member.qemuVersion === '');
    const dead = waiting.find((member) => member.owned && member.pid === undefined);
    const [first] = waiting;
    if (first === undefined || status.busy !== undefined) return status;
    if (dead !== undefined || performance.now() > end) {
      const { member, status: state } = dead ?? first;
      throw new UmbraError({
        code: 'E_VM_START',
        message: `the VM of ${member} does not answer on its monitor (${state})`,
        member,
        hint: `See vm.log in the member’s folder; if it ran before: umbra restore`,
      });
    }
    await delay(POLL_MS);
  }
}
