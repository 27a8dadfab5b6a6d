/**
 * An advisory lock (flock(2)) on a file in a cluster's folder: a cluster has one daemon. The open
 * file holds the lock, so it ends with its process, however that ends.
 */
import { closeSync, openSync } from 'node:fs';
import { UmbraError } from '../failure/failure.ts';
import { clusterFile } from './folders.ts';
import { tryLock } from './libc.ts';

/** A lock that this process holds. */
export interface Lock {
  release(): void;
}

/**
 * Locks a cluster's folder for this process.
 * @throws UmbraError E_DAEMON_RUNS when another process holds the lock
 */
export function lockCluster(directory: string, cluster: string): Lock {
  const fd = openSync(clusterFile(directory, 'lock'), 'w', 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    const message = `cluster ${cluster} has a daemon already`;
    throw new UmbraError({ code: 'E_DAEMON_RUNS', message, hint: 'See: umbra status' });
  }
  return { release: () => closeSync(fd) };
}
