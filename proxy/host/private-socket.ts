/** The unix socket and the pid file of a cluster's daemon. */
import { chmodSync } from 'node:fs';
import { connect } from 'node:net';
import { clusterFile } from './folders.ts';

/** Returns the socket on which a cluster's daemon listens. */
export function apiSocket(clusterDirectory: string): string {
  return clusterFile(clusterDirectory, 'api');
}

/** Returns the file in which a daemon names its process. */
export function daemonPidFile(clusterDirectory: string): string {
  return clusterFile(clusterDirectory, 'daemon');
}

/**
 * Listens on a unix socket to which only this user may connect. Between bind(2) and chmod(2) the
 * socket's folder, which is 0700, keeps other users out.
 */
export async function listenPrivately(
  server: { listen(options: { path: string }): Promise<unknown> },
  path: string,
): Promise<void> {
  await server.listen({ path });
  chmodSync(path, 0o600);
}

/** Tells whether a process accepts connections on this unix socket. */
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
