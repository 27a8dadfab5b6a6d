/** `umbra status`. */
import { withDaemon } from './daemon.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { statusText } from './reports.ts';

/** Prints members, epochs, and the job under way. */
export async function status(cluster: string, output: Output): Promise<void> {
  const answer = await withDaemon(storedConfig(cluster), (daemon) => daemon.ask('status', {}));
  output.result(answer, statusText(answer));
}
