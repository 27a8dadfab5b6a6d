/**
 * A daemon without a part of what a consistent cut rests on, to show that the suite would notice.
 * An epoch taken by it is worth nothing. The program is started by `breakDaemon` alone:
 *
 *     node --import tsx test/support/broken-daemon.ts CLUSTER PART…
 *
 *     barrier     the agent lets every member pass the barrier as soon as that member has stopped
 *     hold        proxies believe that a guest's frames are held, and they are not
 *     foresight   proxies do not foresee that QEMU lets a stopped VM run; the round must notice
 *
 * Nothing of it is in what is shipped: no configuration and no environment variable can ask for it.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runDaemon } from '../../proxy/daemons/embedded.ts';
import { clusterFile } from '../../proxy/host/folders.ts';
import { storedSource } from '../../tools/cli/home.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import { BrokenBarrierAgent } from './broken-barrier.ts';

const CLUSTER = 'demo';
/** Characters of its log that an error shows. */
const LAST_WORDS = 2000;
const PARTS = ['barrier', 'hold', 'foresight'] as const;
export type Part = (typeof PARTS)[number];

/** Modules that break a proxy which loads them first. */
const PRELOADS: Readonly<Record<Exclude<Part, 'barrier'>, URL>> = {
  hold: new URL('./broken-hold.ts', import.meta.url),
  foresight: new URL('./broken-foresight.ts', import.meta.url),
};
const program = fileURLToPath(import.meta.url);

/**
 * Replaces a testbed's daemon by one without these parts; its VMs run on. The next
 * `Testbed.reconfigure` replaces it by a whole one.
 * @throws Error if it does not start
 */
export async function breakDaemon(bed: Testbed, parts: readonly Part[]): Promise<void> {
  await bed.json('down', '--keep-vms');
  const log = openSync(clusterFile(bed.directory, 'daemonLog'), 'a', 0o600);
  const child = spawn(process.execPath, ['--import', 'tsx', program, CLUSTER, ...parts], {
    detached: true,
    env: { ...process.env, UMBRA_HOME: bed.home, UMBRA_STOP_AT: bed.stopAt },
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('error', reject);
    child.once('exit', (code) => {
      const words = readFileSync(clusterFile(bed.directory, 'daemonLog'), 'utf8').slice(
        -LAST_WORDS,
      );
      reject(new Error(`a broken daemon ended: status ${code}: ${words}`));
    });
  });
  child.removeAllListeners('exit');
  child.disconnect();
  child.unref();
}

/**
 * @throws Error for an unknown part: a test that breaks nothing must not look like one that does
 */
export function parseParts(words: readonly string[]): Part[] {
  return words.map((word) => {
    const part = PARTS.find((one) => one === word);
    if (part === undefined) throw new Error(`${word} is none of ${PARTS.join(', ')}`);
    return part;
  });
}

async function run([cluster = '', ...words]: readonly string[]): Promise<void> {
  const parts = parseParts(words);
  process.stderr.write(`broken on purpose, not a consistent cut: ${parts.join(', ')}\n`);
  // What is forked gets these, too: proxies, and the processes of the durable tier.
  for (const part of parts) {
    if (part !== 'barrier') process.execArgv.push('--import', PRELOADS[part].href);
  }
  const onReady = () => {
    process.send?.('ready');
  };
  const agent = parts.includes('barrier') ? { agentClass: BrokenBarrierAgent } : {};
  await runDaemon(storedSource(cluster), { boot: false, onReady, ...agent });
}

if (process.argv[1] === program) await run(process.argv.slice(2));
