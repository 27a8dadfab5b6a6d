/** Scratch space on tmpfs where there is one: what is tested there lives there in production. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';

export function scratchFolder(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
}
