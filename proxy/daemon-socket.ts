import { connect } from 'node:net';
import { join } from 'node:path';

/** Where a cluster's daemon listens. */
export function apiSocketOf(clusterDirectory: string): string {
  return join(clusterDirectory, 'api.sock');
}

/** Where a daemon says which process it is. */
export function daemonCardOf(clusterDirectory: string): string {
  return join(clusterDirectory, 'daemon.json');
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
