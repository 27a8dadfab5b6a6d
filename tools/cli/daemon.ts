/** The daemon of a cluster, asked by a command. */

import * as z from 'zod';
import { DaemonClient } from '../../proxy/client/daemon-client.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';

// A command checks an answer or two: to compile the checks would take longer than they do.
z.config({ jitless: true });

/** Lends a client of the cluster's daemon, and closes it in the end. @throws UmbraError */
export async function withDaemon<T>(
  { cluster, directory }: Pick<ClusterConfig, 'cluster' | 'directory'>,
  use: (daemon: DaemonClient) => Promise<T>,
): Promise<T> {
  const daemon = new DaemonClient(cluster, directory);
  try {
    return await use(daemon);
  } finally {
    await daemon.close();
  }
}
