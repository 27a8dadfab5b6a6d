/**
 * One daemon a cluster: an advisory lock (flock(2)) on a file in the cluster's folder. It is held by the
 * open file, so it goes with its process, however that ends. Node has no flock, hence the call.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { UmbraError } from '../failure/failure.ts';

// <sys/file.h>
const LOCK_EX = 2;
const LOCK_NB = 4;

const libc = koffi.load('libc.so.6');
const flock = libc.func('int flock(int fd, int operation)');

export interface Lock {
  release(): void;
}

/** @throws UmbraError E_DAEMON_RUNS when another process holds it */
export function lockCluster(directory: string, cluster: string): Lock {
  const fd = openSync(join(directory, 'lock'), 'w', 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd);
    const message = `cluster ${cluster} has a daemon already`;
    throw new UmbraError({ code: 'E_DAEMON_RUNS', message, hint: 'See: umbra status' });
  }
  return { release: () => closeSync(fd) };
}
