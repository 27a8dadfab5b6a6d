/** What each command does, without how it was spelled. */
import { existsSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { forgetVm, recordedVm } from '../../proxy/agent/vms/vm-process.ts';
import { POLICIES } from '../../proxy/config/explain.ts';
import { toFailure, UmbraError } from '../../proxy/failure/failure.ts';
import { clusterFile } from '../../proxy/host/folders.ts';
import { isAlive, killProcess } from '../../proxy/host/pid-file.ts';
import { answers, apiSocket } from '../../proxy/host/private-socket.ts';
import type { ClusterConfig } from '../../proxy/protocol/cluster.ts';
import type { EpochDetail } from '../../proxy/protocol/epoch.ts';
import type {
  QueuedProgress,
  RestoreProgress,
  RoundProgress,
} from '../../proxy/protocol/progress.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { awaitReady } from './await-ready.ts';
import { DaemonClient } from './client.ts';
import { loadConfigFile, storeConfig, storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { endDaemon, ensureDaemon, ensureSwitch, sayHello, stopSwitch } from './processes.ts';
import { epochDetailsText, restoreText, roundText, statusText } from './reports.ts';
import { progressView } from './round-progress.ts';
import { timelineSvg } from './timeline-svg.ts';

/** SIGTERM lets QEMU flush its disks; a hung one is killed after this. */
const POLITE_MS = 5_000;

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
    const status = await withDaemon(config, (client) =>
      boot ? awaitReady(client) : client.request<ClusterStatus>('GET', '/v1/status'),
    );
    output.result(status, statusText(status));
  } catch (error) {
    if (fresh) await abandon(config);
    throw error;
  }
}

/** Another config under a running cluster would be two truths: it is refused. */
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

/** A cluster that did not come up leaves nothing behind. */
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

export async function serve(cluster: string, boot: boolean): Promise<void> {
  try {
    const onReady = () => sayHello({ ready: true });
    const { runDaemon } = await import('../../proxy/daemons/embedded.ts'); // fastify and all: only here
    await runDaemon(storedConfig(cluster), { boot, onReady });
  } catch (error) {
    sayHello({ ready: false, failure: toFailure(error, { where: 'start' }) });
    throw error;
  }
}

export async function status(cluster: string, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  const answer = await withDaemon(config, (client) =>
    client.request<ClusterStatus>('GET', '/v1/status'),
  );
  output.result(answer, statusText(answer));
}

export async function checkpoint(cluster: string, output: Output): Promise<RoundReport> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const view = progressView(process.stdout, output.json);
  const report = await withDaemon(config, (client) =>
    client.stream<RoundReport>('/v1/checkpoint', {}, (line) => {
      const progress = line as RoundProgress | QueuedProgress;
      if (progress.kind === 'queued') view.queued(progress.why);
      else view.show(progress);
    }),
  ).finally(() => view.stop());
  output.result(report, report.failure === undefined ? roundText(report) : '');
  if (report.failure !== undefined && !output.json) throw new UmbraError(report.failure);
  if (report.failure !== undefined) process.exitCode = 1;
  return report;
}

export interface ReportArguments {
  readonly round: string;
  readonly svg: string | undefined;
  readonly list: boolean;
}

export async function report(
  cluster: string,
  { round, svg, list }: ReportArguments,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  await withDaemon(config, async (client) => {
    if (list) {
      const answer = await client.request<{ rounds: string[] }>('GET', '/v1/rounds');
      output.result(answer, answer.rounds.join('\n') || 'no round was run yet');
      return;
    }
    const path = `/v1/rounds/${encodeURIComponent(round)}`;
    const found = await client.request<RoundReport>('GET', path);
    if (svg !== undefined) writeFileSync(svg, timelineSvg(found));
    output.result(found, roundText(found));
  });
}

export async function epochs(cluster: string, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (client) =>
    client.request<{ epochs: EpochDetail[] }>('GET', '/v1/epochs'),
  );
  output.result(answer, epochDetailsText(answer.epochs));
}

export interface RestoreArguments {
  readonly epoch: number | undefined;
  readonly mode: string | undefined;
  readonly replace: boolean;
  readonly verify: boolean;
  readonly from: string;
}

export async function restore(
  cluster: string,
  { epoch, mode, replace, verify, from }: RestoreArguments,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  ensureSwitch(config);
  await ensureDaemon(config, false);
  const body = {
    ...(epoch !== undefined && { epoch }),
    mode: mode ?? config.restore.mode,
    replace,
    from,
    verify: verify ? 'all' : 'changed',
  };
  const report = await withDaemon(config, (client) =>
    client.stream<RestoreReport>('/v1/restore', body, (line) => {
      const { step, member } = line as RestoreProgress;
      output.say(`  ${step}${member === undefined ? '' : ` ${member}`}`);
    }),
  );
  output.result(report, restoreText(report));
}

export async function verifyEpoch(cluster: string, epoch: number, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (client) =>
    client.request<{ places: string[] }>('POST', `/v1/epochs/${epoch}/verify`),
  );
  const where = answer.places
    .join(' and on ')
    .replace(/^/, answer.places[0] === 'memory' ? 'in ' : 'on ');
  output.result(answer, `epoch ${epoch} is whole ${where}: every byte matches its digest`);
}

export async function pinEpoch(
  cluster: string,
  epoch: number,
  pinned: boolean,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (client) =>
    client.request<object>(pinned ? 'PUT' : 'DELETE', `/v1/epochs/${epoch}/pin`),
  );
  const kept = pinned ? 'is pinned: it stays until' : 'is no longer pinned; pin it again:';
  output.result(answer, `epoch ${epoch} ${kept} umbra pin ${epoch}${pinned ? ' --off' : ''}`);
}

export async function removeEpoch(cluster: string, epoch: number, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (client) =>
    client.request<object>('DELETE', `/v1/epochs/${epoch}`),
  );
  output.result(answer, `epoch ${epoch} is gone`);
}

/** @throws UmbraError E_POLICY_UNKNOWN */
export function explain(policy: string | undefined, output: Output): void {
  const names = policy === undefined ? Object.keys(POLICIES) : [policy];
  const chosen = names.map((name) => {
    const options = POLICIES[name];
    if (options !== undefined) return { name, options };
    const message = `there is no policy ${name}; there are: ${Object.keys(POLICIES).join(', ')}`;
    throw new UmbraError({ code: 'E_POLICY_UNKNOWN', message });
  });
  const text = chosen.map(({ name, options }) => {
    const lines = options.map(({ option, unit, default: usual, effect }) =>
      [option, `    ${effect}`, `    unit: ${unit}`, `    default: ${usual}`].join('\n'),
    );
    return [name, ...lines].join('\n\n');
  });
  output.result(
    Object.fromEntries(chosen.map(({ name, options }) => [name, options])),
    text.join('\n\n'),
  );
}

export interface DownArguments {
  readonly keepVms: boolean;
  readonly purge: boolean;
}

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

async function stopDaemon(config: ClusterConfig): Promise<void> {
  await endDaemon(config, async () => {
    await withDaemon(config, (client) => client.request('POST', '/v1/shutdown'));
  });
}

/** Stops the VMs Umbra started. Attached ones belong to someone else. */
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

export async function withDaemon<T>(
  config: ClusterConfig,
  use: (client: DaemonClient) => Promise<T>,
): Promise<T> {
  const client = new DaemonClient(config.cluster, config.directory);
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}
