/**
 * Everything of one cluster on one host, in one process: coordinator, agent, API; and a proxy
 * process a member. VMs are started so that they outlive it.
 */
import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { Catalogue, makeOwnFolder } from '../../shadow/index.ts';
import { LocalAgent } from '../agent/local-agent.ts';
import type { ConfigSource } from '../config/config.ts';
import { buildApi } from '../coordinator/api.ts';
import { Coordinator } from '../coordinator/coordinator.ts';
import { toFailure } from '../failure/failure.ts';
import { faultPoint } from '../failure/fault-point.ts';
import { lockCluster } from '../host/lock.ts';
import { recordProcess } from '../host/pid-file.ts';
import { apiSocket, daemonPidFile, listenPrivately } from '../host/private-socket.ts';
import type { Reloaded } from '../protocol/reload.ts';
import { LiveConfig } from './live-config.ts';

/** Limit for a round under way when the daemon ends. */
const END_LIMIT_MS = 30_000;

export interface DaemonOptions {
  /** Called when the API answers. */
  readonly onReady?: () => void;
  /** Start the VMs that have a command and do not run. */
  readonly boot: boolean;
  /** Reads the cluster.yaml again: SIGHUP asks for that. @throws UmbraError E_CONFIG_FILE */
  readonly reread?: () => ConfigSource;
  /** Keeps a cluster.yaml that was taken up, for later lives of the daemon. */
  readonly keep?: (source: ConfigSource) => void;
  /** The agent's class; tests have agents of their own. */
  readonly agentClass?: typeof LocalAgent;
}

/**
 * Runs until a client asks it to end, or SIGTERM or SIGINT.
 * @throws UmbraError E_CONFIG, E_DAEMON_RUNS, ShadowError E_FOLDER_UNSAFE, or what kept it from
 *   starting
 */
export async function runDaemon(source: ConfigSource, options: DaemonOptions): Promise<void> {
  const live = new LiveConfig(source);
  const { config } = live;
  const log = pino({ level: process.env.UMBRA_LOG ?? 'info' }).child({ cluster: config.cluster });
  // Also what is made by those we start: QEMU's sockets and logs, layers of disks.
  process.umask(0o077);
  makeOwnFolder(config.directory);
  const lock = lockCluster(config.directory, config.cluster);
  const socket = apiSocket(config.directory);
  const onStep = (step: string) => faultPoint(`store/${step}`);
  const catalogue = new Catalogue(config.catalogueDirectory, config.cluster, onStep);
  await catalogue.prepare();
  const { agentClass: Agent = LocalAgent } = options;
  const agent = new Agent(config, catalogue, log);
  const coordinator = new Coordinator(config, agent, catalogue, log);
  const ended = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
  let askedToEnd: () => void = () => {};
  const asked = new Promise<void>((resolve) => {
    askedToEnd = resolve;
  });
  const reload = async (next: Pick<ConfigSource, 'text' | 'file'>): Promise<Reloaded> => {
    const read = live.read(next);
    const keep = () => options.keep?.({ ...next, home: source.home });
    const applied = await coordinator.reconfigure(() => live.takeUp(read, keep));
    log.info({ file: next.file, applied }, 'configuration read again');
    return { applied };
  };
  const onHangUp = () => {
    const { reread } = options;
    if (reread === undefined) return;
    (async () => reload(reread()))().catch((error: unknown) => {
      log.error({ failure: toFailure(error, { where: 'reload' }) }, 'nothing was changed');
    });
  };
  const api = buildApi(coordinator, log, { shutdown: () => askedToEnd(), reload });
  process.on('SIGHUP', onHangUp);
  recordProcess(daemonPidFile(config.directory), process.pid);
  try {
    await agent.start();
    if (options.boot) await agent.boot();
    rmSync(socket, { force: true });
    await coordinator.start();
    await listenPrivately(api, socket);
    log.info({ members: agent.members.length }, 'ready');
    options.onReady?.();
    await Promise.race([ended, asked]);
    log.info('ending');
  } finally {
    // A round under way is brought to its end first: its members need us to hear that it is over.
    await Promise.race([coordinator.end(), delay(END_LIMIT_MS, undefined, { ref: false })]);
    await api.close();
    process.off('SIGHUP', onHangUp);
    await agent.close();
    rmSync(socket, { force: true });
    rmSync(daemonPidFile(config.directory), { force: true });
    lock.release();
  }
  // Whatever a round that would not end still waits for must not keep us.
  process.exit();
}
