/** The daemon of a cluster, as a command starts it (the hidden command `serve`). */
import { toFailure } from '../../proxy/failure/failure.ts';
import { storedConfig } from './home.ts';
import { sayHello } from './processes.ts';

/** Runs the cluster's daemon until it ends. */
export async function serve(cluster: string, boot: boolean): Promise<void> {
  try {
    const onReady = () => sayHello({ ready: true });
    const { runDaemon } = await import('../../proxy/daemons/embedded.ts'); // it brings fastify
    await runDaemon(storedConfig(cluster), { boot, onReady });
  } catch (error) {
    sayHello({ ready: false, failure: toFailure(error, { where: 'start' }) });
    throw error;
  }
}
