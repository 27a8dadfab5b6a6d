/** Scratch space, on tmpfs if there is one: in production the tested files are on tmpfs too. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';

export function scratchFolder(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
}
