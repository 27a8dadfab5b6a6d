/**
 * One daemon a cluster: an advisory lock (flock(2)) on a file in the cluster's folder. It is held by the
 * open file, so it goes with its process, however that ends. Node has no flock, hence the call.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import { tryLock } from './libc.ts';

export interface Lock {
  release(): void;
}

/** @throws UmbraError E_DAEMON_RUNS when another process holds it */
export function lockCluster(directory: string, cluster: string): Lock {
  const fd = openSync(join(directory, 'lock'), 'w', 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    const message = `cluster ${cluster} has a daemon already`;
    throw new UmbraError({ code: 'E_DAEMON_RUNS', message, hint: 'See: umbra status' });
  }
  return { release: () => closeSync(fd) };
}
