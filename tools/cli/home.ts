/**
 * Where clusters live: one folder each, on tmpfs, the operator's alone.
 *
 *     $UMBRA_HOME or /dev/shm/umbra-UID/
 *       CLUSTER/
 *         cluster.json          the config it was started with
 *         api.sock, daemon.log  its daemon
 *         switch.json           its switch's process, if it has one
 *         vm/MEMBER/            sockets, logs, journal
 *         shadows/ROUND/MEMBER/ RAM images and device state
 *         epochs/000001.json    the catalogue
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type ClusterConfig, clusterDirectory, parseClusterConfig } from '../../proxy/config.ts';
import { UmbraError } from '../../proxy/failure.ts';

const storedSchema = z.object({ file: z.string(), text: z.string() });

export function umbraHome(): string {
  const chosen = process.env.UMBRA_HOME;
  if (chosen !== undefined && chosen !== '') return chosen;
  if (existsSync('/dev/shm')) return `/dev/shm/umbra-${userInfo().uid}`;
  return join(homedir(), '.umbra');
}

/** @throws UmbraError E_CONFIG_FILE or E_CONFIG */
export function loadConfigFile(file: string): { config: ClusterConfig; text: string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const message = `cannot read ${file}: ${(cause as NodeJS.ErrnoException).code}`;
    throw new UmbraError({ code: 'E_CONFIG_FILE', message }, cause);
  }
  return { config: parseClusterConfig(text, file, umbraHome()), text };
}

/** Keeps the config a cluster was started with, so that later commands need only its name. */
export function storeConfig(config: ClusterConfig, file: string, text: string): void {
  mkdirSync(config.directory, { recursive: true, mode: 0o700 });
  const stored = JSON.stringify({ file, text });
  writeFileSync(join(config.directory, 'cluster.json'), stored, { mode: 0o600 });
}

/** @throws UmbraError E_CLUSTER_UNKNOWN */
export function storedConfig(cluster: string): ClusterConfig {
  const { text, file } = storedText(cluster);
  return parseClusterConfig(text, file, umbraHome());
}

/** The cluster.yaml a cluster was started with, and where it was. @throws UmbraError E_CLUSTER_UNKNOWN */
export function storedText(cluster: string): { readonly file: string; readonly text: string } {
  const directory = clusterDirectory(umbraHome(), cluster);
  try {
    return storedSchema.parse(JSON.parse(readFileSync(join(directory, 'cluster.json'), 'utf8')));
  } catch (cause) {
    const known = clusterNames().join(', ') || 'none';
    const message = `there is no cluster ${cluster} on this host; there are: ${known}`;
    throw new UmbraError({ code: 'E_CLUSTER_UNKNOWN', message, hint: START_HINT }, cause);
  }
}

const START_HINT = 'Start one: umbra up cluster.yaml';

export function clusterNames(): string[] {
  const home = umbraHome();
  if (!existsSync(home)) return [];
  return readdirSync(home).filter((name) => existsSync(join(home, name, 'cluster.json')));
}

/**
 * The cluster a command means: the one named, or the only one there is.
 * @throws UmbraError E_CLUSTER_UNKNOWN
 */
export function chooseCluster(named: string | undefined): string {
  if (named !== undefined) {
    storedConfig(named);
    return named;
  }
  const names = clusterNames();
  const [only] = names;
  if (only !== undefined && names.length === 1) return only;
  const code = 'E_CLUSTER_UNKNOWN';
  if (only === undefined) {
    throw new UmbraError({ code, message: 'there is no cluster on this host', hint: START_HINT });
  }
  const message = `which cluster? There are: ${names.join(', ')}`;
  throw new UmbraError({ code, message, hint: 'Name it: --cluster NAME' });
}
