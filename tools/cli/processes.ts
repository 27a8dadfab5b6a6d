/** Starts the long-lived processes of a cluster: its daemon and its switch. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Failure, UmbraError } from '../../proxy/failure/failure.ts';
import { clusterFile } from '../../proxy/host/folders.ts';
import { isAlive, killProcess, recordedProcess, recordProcess } from '../../proxy/host/pid-file.ts';
import { answers, apiSocket, daemonPidFile } from '../../proxy/host/private-socket.ts';
import { programPath } from '../../proxy/host/program.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';

const LOG_EXCERPT_BYTES = 600;
const END_LIMIT_MS = 40_000;
const POLL_MS = 20;

/** The message of a daemon to the command that started it. */
export type DaemonHello =
  | { readonly ready: true }
  | { readonly ready: false; readonly failure: Failure };

/**
 * Starts the daemon, unless it runs. Waits for one that is ending, and does not answer any more.
 * @returns true if it was started
 * @throws UmbraError what kept it from starting
 */
export async function ensureDaemon(config: ClusterConfig, boot: boolean): Promise<boolean> {
  const socket = apiSocket(config.directory);
  const card = daemonPidFile(config.directory);
  for (const end = performance.now() + END_LIMIT_MS; !(await answers(socket)); ) {
    const failure = await startDaemon(config, boot);
    if (failure === undefined) return true;
    // Another command was faster: then its daemon is ours as well, as soon as it answers.
    if (failure.code !== 'E_DAEMON_RUNS') throw UmbraError.received(failure);
    do {
      if (performance.now() > end) throw UmbraError.received(failure);
      await delay(POLL_MS);
    } while (!(await answers(socket)) && recordedProcess(card) !== undefined);
  }
  return false;
}

/**
 * Starts the daemon, and waits until it is ready.
 * @returns the failure it reports, if it could not start
 * @throws UmbraError E_DAEMON_LOST: it ended without a word
 */
async function startDaemon(config: ClusterConfig, boot: boolean): Promise<Failure | undefined> {
  const logPath = clusterFile(config.directory, 'daemonLog');
  const log = openSync(logPath, 'a', 0o600);
  const args = ['serve', '--cluster', config.cluster, ...(boot ? ['--boot'] : [])];
  const child = spawn(
    process.execPath,
    [...process.execArgv, programPath('tools/cli/main'), ...args],
    {
      detached: true,
      stdio: ['ignore', log, log, 'ipc'],
    },
  );
  closeSync(log);
  const hello = await firstWord(child);
  if (hello === undefined) {
    const tail = readFileSync(logPath, 'utf8').slice(-LOG_EXCERPT_BYTES);
    const message = `the daemon ended before it was ready: ${tail}`;
    throw new UmbraError({ code: 'E_DAEMON_LOST', message });
  }
  if (!hello.ready) return hello.failure;
  child.disconnect();
  child.unref();
  return undefined;
}

/**
 * Asks the daemon to end by way of `ask`, and waits until it has: a round under way is brought to
 * its end first. A daemon that does not answer, or does not end, is killed; its proxies then repair
 * their VMs by themselves.
 * @param ask fails with E_DAEMON_SILENT if the daemon hangs
 */
export async function endDaemon(config: ClusterConfig, ask: () => Promise<void>): Promise<void> {
  const daemon = recordedProcess(daemonPidFile(config.directory));
  if (daemon === undefined) return;
  try {
    await ask();
  } catch (error) {
    // Any other failure comes of a daemon that is ending already.
    if (error instanceof UmbraError && error.code === 'E_DAEMON_SILENT') await killProcess(daemon);
  }
  for (const end = performance.now() + END_LIMIT_MS; isAlive(daemon); await delay(POLL_MS)) {
    if (performance.now() > end) await killProcess(daemon);
  }
}

/** Starts the user-space switch between the guests, if the config asks for one and none runs. */
export function ensureSwitch(config: ClusterConfig): void {
  if (config.switchSockets.length === 0) return;
  if (recordedProcess(switchPidFile(config)) !== undefined) return;
  const log = openSync(clusterFile(config.directory, 'switchLog'), 'a', 0o600);
  const ports = config.switchSockets.flatMap((path) => ['--port', path]);
  const args = [programPath('proxy/switch/main'), ...ports, '--until-gone', config.directory];
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.unref();
  recordProcess(switchPidFile(config), child.pid ?? 0);
}

export async function stopSwitch(config: ClusterConfig): Promise<void> {
  const running = recordedProcess(switchPidFile(config));
  if (running !== undefined) await killProcess(running);
  rmSync(switchPidFile(config), { force: true });
}

export function sayHello(hello: DaemonHello): void {
  process.send?.(hello);
}

function firstWord(child: ChildProcess): Promise<DaemonHello | undefined> {
  return new Promise((resolve, reject) => {
    child.once('message', (hello: DaemonHello) => resolve(hello));
    child.once('exit', () => resolve(undefined));
    child.once('error', reject);
  });
}

function switchPidFile(config: ClusterConfig): string {
  return clusterFile(config.directory, 'switch');
}
