/**
 * Brings up a second cluster from an epoch of one that runs on:
 *
 *     derive config ▶ make folder ▶ switch ▶ daemon ▶ (the daemon restores) ▶ there
 *      └── nothing was made        └── any failure, or a signal: all of it is taken down again
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { holdEpoch } from '../../proxy/client/epoch-hold.ts';
import { type CloneConfig, cloneConfig } from '../../proxy/config/clone-config.ts';
import { clusterDirectory, parseClusterConfig } from '../../proxy/config/config.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { memberFolder } from '../../proxy/host/folders.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import type { RestoreOptions } from '../../proxy/protocol/operator.ts';
import type { RestoreReport } from '../../proxy/protocol/report.ts';
import { Catalogue, openShadow } from '../../shadow/index.ts';
import { withDaemon } from './daemon.ts';
import { storeConfig, storedConfig, storedSource, storedText, umbraHome } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon, ensureSwitch } from './processes.ts';
import { restoreText } from './reports.ts';
import { stepText } from './restore.ts';
import { abandon } from './teardown.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface CloneArguments {
  readonly epoch: number | undefined;
  readonly mode: RestoreOptions['mode'] | undefined;
  readonly clock: RestoreOptions['clock'] | undefined;
  readonly verify: boolean;
  readonly qemu: RestoreOptions['qemu'];
  readonly disconnect: boolean;
}

/**
 * Brings up a clone. Nothing is left of one that does not come up.
 * @throws UmbraError E_CLUSTER_EXISTS, E_CLONE_…, or what kept it from coming up
 */
export async function clone(
  cluster: string,
  name: string,
  wanted: CloneArguments,
  output: Output,
): Promise<void> {
  const source = storedConfig(cluster);
  const directory = clusterDirectory(umbraHome(), name);
  if (existsSync(directory)) throw taken(name);
  await ensureDaemon(source, false);
  // The epoch that the config is derived from must stay until the clone's daemon has its own hold.
  const hold = await holdEpoch(source, wanted.epoch);
  try {
    const { text, unplugged } = await derive(source, name, hold.epoch, wanted.disconnect);
    const { file } = storedText(cluster);
    const config = parseClusterConfig(text, file, umbraHome());
    if (existsSync(config.shadowsDirectory)) throw taken(name);
    makeFolder(config);
    const report = await orAbandon(config, async (interrupted) => {
      storeConfig(config, file, text);
      ensureSwitch(config);
      await ensureDaemon(config, false);
      const restored = request(config, cluster, { ...wanted, epoch: hold.epoch }, output);
      return Promise.race([restored, interrupted]);
    });
    const lines = [
      `cluster ${name} is a clone of ${cluster}; speak to it with --cluster ${name}`,
      ...unplugged.map((card) => `  unplugged ${card}`),
      restoreText(report),
    ];
    output.result({ ...report, cluster: name, source: cluster, unplugged }, lines.join('\n'));
  } finally {
    await hold.release();
  }
}

async function derive(
  source: ClusterConfig,
  name: string,
  epoch: number,
  disconnect: boolean,
): Promise<CloneConfig> {
  const catalogue = new Catalogue(source.catalogueDirectory, source.cluster);
  const { round, members } = await catalogue.read(epoch);
  const home = clusterDirectory(umbraHome(), name);
  const recorded = await Promise.all(
    members.map(async ({ name: member, shadow }) => {
      const folder = join(source.shadowsDirectory, round, member);
      const { commandLine, workingDirectory } = (await openShadow(folder, shadow)).manifest
        .identity;
      return { name: member, commandLine, workingDirectory, directory: memberFolder(home, member) };
    }),
  );
  const { text } = storedText(source.cluster);
  return cloneConfig(name, { source, disconnect }, text, recorded);
}

/** Makes the clone's folder. Of two commands that want the name, one makes it, the other fails. */
function makeFolder(config: ClusterConfig): void {
  try {
    mkdirSync(config.directory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw taken(config.cluster);
    throw error;
  }
}

async function request(
  config: ClusterConfig,
  source: string,
  { epoch, mode, clock, verify, qemu, disconnect }: CloneArguments,
  output: Output,
): Promise<RestoreReport> {
  const body = {
    epoch,
    mode: mode ?? config.restore.mode,
    qemu,
    clock: clock ?? config.restore.clock,
    verify: verify ? ('all' as const) : ('changed' as const),
    source: storedSource(source),
    disconnect,
  };
  return withDaemon(config, (daemon) =>
    daemon.follow('clone', { body }, (progress) => output.say(stepText(progress))),
  );
}

/**
 * Runs work; if it fails, or a signal comes, removes every trace of the clone.
 * @param work is given a promise that rejects on a signal, to race with what takes long
 */
async function orAbandon<T>(
  config: ClusterConfig,
  work: (interrupted: Promise<never>) => Promise<T>,
): Promise<T> {
  let interrupt: (signal: NodeJS.Signals) => void = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    interrupt = (signal) => {
      const message = `${signal} came before the clone was there`;
      reject(new UmbraError({ code: 'E_CLONE_INTERRUPTED', message }));
    };
  });
  interrupted.catch(() => {}); // the signal may come before the race
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    return await work(interrupted);
  } catch (error) {
    await abandon(config);
    throw error;
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
}

function taken(name: string): UmbraError {
  const message = `there is a cluster ${name} already`;
  const hint = `Choose another name, or remove it: umbra down --purge --cluster ${name}`;
  return new UmbraError({ code: 'E_CLUSTER_EXISTS', message, hint });
}
