import { chmodSync } from 'node:fs';
import { connect } from 'node:net';
import { clusterFile } from './folders.ts';

/** Where a cluster's daemon listens. */
export function apiSocket(clusterDirectory: string): string {
  return clusterFile(clusterDirectory, 'api');
}

/** Where a daemon says which process it is. */
export function daemonPidFile(clusterDirectory: string): string {
  return clusterFile(clusterDirectory, 'daemon');
}

/** Others may not connect; whoever could reach the path before that is kept out by its folder, 0700. */
export async function listenPrivately(
  server: { listen(options: { path: string }): Promise<unknown> },
  path: string,
): Promise<void> {
  await server.listen({ path });
  chmodSync(path, 0o600);
}

/** Does anyone accept connections on this unix socket? */
export function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
