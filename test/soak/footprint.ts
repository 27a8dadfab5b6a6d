/** Memory, descriptors and files that a testbed's cluster uses, by the kernel's accounts. */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import type { Sample } from './growth.ts';

const BLOCK_BYTES = 512;
const MIB = 2 ** 20;

export function footprint(bed: Testbed, atMs: number): Sample {
  const all = [...bed.processes()].filter(([, command]) => command !== '');
  const daemons = pidsOf(all, ' serve ');
  const proxies = pidsOf(all, '/member/process.');
  return {
    atMs,
    daemonMiB: sum(daemons.map(residentMiB)),
    proxiesMiB: sum(proxies.map(residentMiB)),
    descriptors: sum([...daemons, ...proxies].map(descriptorsOf)),
    processes: all.length,
    tmpfsMiB: Math.round(sum(filesBelow(bed.directory)) / MIB),
  };
}

function pidsOf(all: readonly (readonly [number, string])[], words: string): number[] {
  return all.flatMap(([pid, command]) => (command.includes(words) ? [pid] : []));
}

function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024);
}

function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Returns the bytes that each file occupies; a file with several names counts once. */
function filesBelow(directory: string): number[] {
  const seen = new Map<number, number>();
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const entry = lstatSync(join(directory, name), { throwIfNoEntry: false });
    if (entry?.isFile()) seen.set(entry.ino, entry.blocks * BLOCK_BYTES);
  }
  return [...seen.values()];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
