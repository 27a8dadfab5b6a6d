/** The daemon of a cluster, as a command starts it (the hidden command `serve`). */
import { toFailure } from '../../proxy/failure/failure.ts';
import { readConfigText, storeConfig, storedConfig, storedSource } from './home.ts';
import { sayHello } from './processes.ts';

/** Runs the cluster's daemon until it ends. */
export async function serve(cluster: string, boot: boolean): Promise<void> {
  try {
    const onReady = () => sayHello({ ready: true });
    const { runDaemon } = await import('../../proxy/daemons/embedded.ts'); // it brings fastify
    const reread = () => {
      const source = storedSource(cluster);
      return { ...source, text: readConfigText(source.file) };
    };
    const keep = ({ file, text }: { readonly file: string; readonly text: string }) =>
      storeConfig(storedConfig(cluster), file, text);
    await runDaemon(storedSource(cluster), { boot, onReady, reread, keep });
  } catch (error) {
    sayHello({ ready: false, failure: toFailure(error, { where: 'start' }) });
    throw error;
  }
}
