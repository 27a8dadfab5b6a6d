/** `umbra untrack`: lets go of a VM whose writes are tracked. */
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import { withDaemon } from './daemon.ts';
import type { Output } from './output.ts';

/** @throws UmbraError E_MEMBER_UNKNOWN, E_TRACKING_REFUSED */
export async function untrack(
  cluster: Pick<ClusterConfig, 'cluster' | 'directory'>,
  member: string,
  output: Output,
): Promise<void> {
  const answer = await withDaemon(cluster, (daemon) =>
    daemon.ask('untrack', { params: { member } }),
  );
  const text = answer.wasTracked
    ? `${member} is not tracked any more; the next round tracks it again`
    : `${member} was not tracked`;
  output.result(answer, text);
}
