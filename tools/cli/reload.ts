/** `umbra reload`: changed options of a file, taken up by what runs from it. */
import { clusterDirectory, parseCluster } from '../../proxy/config/config.ts';
import { parseText } from '../../proxy/config/text.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { answers, apiSocket } from '../../proxy/host/private-socket.ts';
import type { Reloaded } from '../../proxy/protocol/reload.ts';
import { askReload, controlSocket } from '../../proxy/relay/control.ts';
import { withDaemon } from './daemon.ts';
import { chooseCluster, readConfigText, storedConfig, storedText, umbraHome } from './home.ts';
import { type Output, reloadedText } from './output.ts';

/**
 * Has a cluster's daemon, or a relay, take up what has changed in its file.
 * @param file cluster.yaml or relay.yaml; undefined: the one that `cluster` was started with
 * @param cluster undefined: the one that the file names, or the only one there is
 * @throws UmbraError E_CONFIG_FILE, E_CONFIG, E_RELOAD_FIXED, E_RELOAD_OFF
 */
export async function reload(
  file: string | undefined,
  cluster: string | undefined,
  output: Output,
): Promise<void> {
  const place = file ?? storedText(chooseCluster(cluster)).file;
  const text = readConfigText(place);
  const reloaded = isRelays(text)
    ? await askReload(controlSocket(umbraHome(), place))
    : await reloadCluster(place, text, cluster, output);
  output.result(reloaded, reloadedText(reloaded));
}

async function reloadCluster(
  file: string,
  text: string,
  wanted: string | undefined,
  output: Output,
): Promise<Reloaded> {
  const home = umbraHome();
  const { cluster: named } = parseCluster({ text, file, home }).config;
  const cluster = wanted ?? named;
  storedConfig(cluster); // it says which there are
  const directory = clusterDirectory(home, cluster);
  if (!(await answers(apiSocket(directory)))) {
    const message = `the daemon of cluster ${cluster} does not run`;
    const hint = `Start it with the file: umbra up ${file}`;
    throw new UmbraError({ code: 'E_RELOAD_OFF', message, hint });
  }
  return withDaemon({ cluster, directory }, async (daemon) => {
    const { busy } = await daemon.ask('status', {});
    if (busy !== undefined) output.say(`applies when this has ended: ${busy}`);
    return daemon.ask('reload', { body: { text, file } });
  });
}

/** Tells a relay.yaml from a cluster.yaml. What cannot be parsed is refused as the latter. */
function isRelays(text: string): boolean {
  const { value } = parseText(text) as { readonly value?: unknown };
  return typeof value === 'object' && value !== null && 'routes' in value && !('cluster' in value);
}
