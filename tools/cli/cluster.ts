/** `umbra up`. */
import { existsSync } from 'node:fs';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { clusterFile } from '../../proxy/host/folders.ts';
import { answers, apiSocket } from '../../proxy/host/private-socket.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import { awaitReady } from './await-ready.ts';
import { withDaemon } from './daemon.ts';
import { loadConfigFile, storeConfig, storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon, ensureSwitch } from './processes.ts';
import { statusText } from './reports.ts';
import { abandon } from './teardown.ts';

/**
 * Starts a cluster, or its daemon again.
 * @param file cluster.yaml; undefined: the one that `cluster` was started with
 * @param boot start the VMs that have a command and do not run
 */
export async function up(
  file: string | undefined,
  cluster: string,
  boot: boolean,
  output: Output,
): Promise<void> {
  const { config, fresh } =
    file === undefined ? { config: storedConfig(cluster), fresh: false } : await takeConfig(file);
  try {
    ensureSwitch(config);
    await ensureDaemon(config, boot);
    const status = await withDaemon(config, (daemon) =>
      boot ? awaitReady(daemon) : daemon.ask('status', {}),
    );
    output.result(status, statusText(status));
  } catch (error) {
    if (fresh) await abandon(config);
    throw error;
  }
}

/**
 * Stores the configuration in a file as that of its cluster.
 * @throws UmbraError E_CLUSTER_EXISTS: the cluster runs with another
 */
async function takeConfig(file: string): Promise<{ config: ClusterConfig; fresh: boolean }> {
  const { config, text } = loadConfigFile(file);
  const fresh = !existsSync(clusterFile(config.directory, 'config'));
  if (await answers(apiSocket(config.directory))) {
    const known = storedConfig(config.cluster);
    if (JSON.stringify(known) !== JSON.stringify(config)) {
      const message = `cluster ${config.cluster} runs with another configuration`;
      const hint = `End it first: umbra down --cluster ${config.cluster}`;
      throw new UmbraError({ code: 'E_CLUSTER_EXISTS', message, hint });
    }
  }
  storeConfig(config, file, text);
  return { config, fresh };
}
