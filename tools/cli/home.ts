/**
 * Folders of clusters: one each, on tmpfs, the operator's alone.
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
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import * as z from 'zod';
import {
  type ConfigSource,
  clusterDirectory,
  parseClusterConfig,
} from '../../proxy/config/config.ts';
import { CONFIG_LIMIT_BYTES } from '../../proxy/config/text.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { clusterFile } from '../../proxy/host/folders.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import { makeOwnFolder, requireTrustedFolder } from '../../shadow/own-folder.ts';

const storedSchema = z.object({ file: z.string(), text: z.string() });

/**
 * Returns the folder of all clusters.
 * @throws ShadowError E_FOLDER_UNSAFE: other users may write to it
 */
export function umbraHome(): string {
  const home = chosenHome();
  // Its content is trusted: cluster.json names commands, sockets lead to daemons.
  if (lstatSync(home, { throwIfNoEntry: false }) !== undefined) requireTrustedFolder(home);
  return home;
}

function chosenHome(): string {
  const chosen = process.env.UMBRA_HOME;
  if (chosen !== undefined && chosen !== '') return chosen;
  if (existsSync('/dev/shm')) return `/dev/shm/umbra-${userInfo().uid}`;
  return join(homedir(), '.umbra');
}

/** Reads a cluster.yaml. @throws UmbraError E_CONFIG_FILE or E_CONFIG */
export function loadConfigFile(file: string): { config: ClusterConfig; text: string } {
  const text = readConfigText(file);
  return { config: parseClusterConfig(text, file, umbraHome()), text };
}

/** Reads the text of a file, no more than may be parsed. @throws UmbraError E_CONFIG_FILE */
export function readConfigText(file: string): string {
  try {
    return readStart(file, CONFIG_LIMIT_BYTES + 1);
  } catch (cause) {
    const message = `cannot read ${file}: ${(cause as NodeJS.ErrnoException).code}`;
    throw new UmbraError({ code: 'E_CONFIG_FILE', message }, cause);
  }
}

/** Reads the start of a file, which may be a pipe, or have no end. */
function readStart(file: string, bytes: number): string {
  const fd = openSync(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(bytes);
    let filled = 0;
    for (let read = 1; read > 0 && filled < bytes; filled += read) {
      read = readSync(fd, buffer, filled, bytes - filled, null);
    }
    return buffer.toString('utf8', 0, filled);
  } finally {
    closeSync(fd);
  }
}

/** Keeps the config a cluster was started with, so that later commands need only its name. */
export function storeConfig(config: ClusterConfig, file: string, text: string): void {
  makeOwnFolder(config.directory);
  const stored = JSON.stringify({ file: resolve(file), text });
  const path = clusterFile(config.directory, 'config');
  // A reader finds the old file or the new one.
  const draft = `${path}.part`;
  writeFileSync(draft, stored, { mode: 0o600 });
  renameSync(draft, path);
}

/** Returns the configuration of a known cluster. @throws UmbraError E_CLUSTER_UNKNOWN */
export function storedConfig(cluster: string): ClusterConfig {
  const { text, file, home } = storedSource(cluster);
  return parseClusterConfig(text, file, home);
}

/**
 * Returns the cluster.yaml that a cluster was started with, and its path.
 * @throws UmbraError E_CLUSTER_UNKNOWN
 */
export function storedText(cluster: string): { readonly file: string; readonly text: string } {
  const directory = clusterDirectory(umbraHome(), cluster);
  try {
    return storedSchema.parse(JSON.parse(readFileSync(clusterFile(directory, 'config'), 'utf8')));
  } catch (cause) {
    const known = clusterNames().join(', ') || 'none';
    const message = `there is no cluster ${cluster} on this host; there are: ${known}`;
    throw new UmbraError({ code: 'E_CLUSTER_UNKNOWN', message, hint: START_HINT }, cause);
  }
}

/** Returns the source of a cluster's configuration. @throws UmbraError E_CLUSTER_UNKNOWN */
export function storedSource(cluster: string): ConfigSource {
  return { ...storedText(cluster), home: umbraHome() };
}

const START_HINT = 'Start one: umbra up cluster.yaml';

export function clusterNames(): string[] {
  const home = umbraHome();
  if (!existsSync(home)) return [];
  return readdirSync(home).filter((name) => existsSync(clusterFile(join(home, name), 'config')));
}

/**
 * Returns the cluster that a command is for: the one named, or the only one there is.
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
