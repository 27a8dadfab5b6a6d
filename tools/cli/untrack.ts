/** `umbra untrack`: lets go of a VM whose writes are tracked. */
import { withDaemon } from './daemon.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon } from './processes.ts';

/** @throws UmbraError E_MEMBER_UNKNOWN, E_TRACKING_REFUSED */
export async function untrack(cluster: string, member: string, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (daemon) =>
    daemon.ask('untrack', { params: { member } }),
  );
  const text = answer.wasTracked
    ? `${member} is not tracked any more; the next round tracks it again`
    : `${member} was not tracked`;
  output.result(answer, text);
}
