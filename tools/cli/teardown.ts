/**
 * The end of a cluster: its daemon, the VMs that Umbra has started, its switch, its folders.
 *
 * Nothing here needs a daemon that runs, or one that answers: VMs and processes are found by their
 * pid files.
 */
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { forgetVm, recordedVm } from '../../proxy/agent/vms/vm-process.ts';
import { DaemonClient } from '../../proxy/client/daemon-client.ts';
import { isAlive, killProcess } from '../../proxy/host/pid-file.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { endDaemon, stopSwitch } from './processes.ts';

/** A QEMU that has flushed its disks ends on SIGTERM; a hung one is killed after this. */
const POLITE_MS = 5_000;
/** A daemon answers the request to end at once; one that does not by then is killed. */
const ANSWER_LIMIT_MS = 10_000;

export interface DownArguments {
  readonly keepVms: boolean;
  readonly purge: boolean;
}

/** Stops the cluster, whatever of it still runs (`umbra down`). */
export async function down(
  cluster: string,
  { keepVms, purge }: DownArguments,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  await stopDaemon(config);
  const stopped = keepVms ? [] : await stopVms(config);
  if (!keepVms) await stopSwitch(config);
  if (purge) removeFolders(config);
  const durable =
    config.persist === undefined ? '' : `; ${config.persist.directory} is left as it is`;
  const kept = purge
    ? `everything of it is removed${durable}`
    : 'its epochs are kept (--purge removes them)';
  const vms = stopped.length === 0 ? 'no VM was stopped' : `stopped: ${stopped.join(', ')}`;
  output.result({ cluster, stopped, purged: purge }, `cluster ${cluster} is down; ${vms}; ${kept}`);
}

/** Removes every trace of a cluster that did not come up. */
export async function abandon(config: ClusterConfig): Promise<void> {
  await stopDaemon(config);
  await stopVms(config);
  await stopSwitch(config);
  removeFolders(config);
}

function removeFolders(config: ClusterConfig): void {
  rmSync(config.shadowsDirectory, { recursive: true, force: true });
  rmSync(config.directory, { recursive: true, force: true });
  // In a store elsewhere it had a folder of its own.
  const parent = dirname(config.shadowsDirectory);
  if (existsSync(parent) && readdirSync(parent).length === 0) rmdirSync(parent);
}

async function stopDaemon(config: ClusterConfig): Promise<void> {
  const { cluster, directory } = config;
  await endDaemon(config, async () => {
    const daemon = new DaemonClient(cluster, directory, { answerLimitMs: ANSWER_LIMIT_MS });
    await daemon.ask('shutdown', {}).finally(() => daemon.close());
  });
}

/** Stops the VMs that Umbra has started, not those that were attached. @returns their members */
async function stopVms(config: ClusterConfig): Promise<string[]> {
  const stopped: string[] = [];
  await Promise.all(
    config.members.map(async ({ name, directory }) => {
      const vm = recordedVm(directory);
      if (vm?.owned && isAlive(vm)) {
        await killProcess(vm, POLITE_MS);
        stopped.push(name);
      }
      await forgetVm(directory);
    }),
  );
  return stopped.sort();
}
