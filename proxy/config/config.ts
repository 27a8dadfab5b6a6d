/**
 * cluster.yaml: what the operator writes, checked whole before anything is touched.
 *
 *     cluster: demo
 *     members:
 *       - name: n0
 *         command: [qemu-system-x86_64, …, -qmp, 'unix:{dir}/qmp.sock,server=on,wait=off']
 *       - name: n1
 *         qmp: /run/vm/n1/qmp.sock          # a VM that runs already
 *       - libvirt: qemu:///system           # one that libvirt runs
 *         domain: n2
 *     round: {capture: auto, cut: auto, stopDeadline: 10s, endWhen: [no-progress], memoryBound: 2,
 *             maxLive: 60s, multiplexing: finish-together, slots: 2, slot: 100ms, inFlight: 64MiB}
 *     store: {budget: 8GiB, headroom: 256MiB, whenFull: refuse}
 *     checkpoint: {every: 10min}                # or {every: optimal, mtbf: 24h}
 *     epochs: {keep: 2, keepFor: 1h}
 *     persist: {to: /var/lib/umbra, mode: background, rate: 200MiB, parallel: 2, keep: 5}
 *     restore: {mode: auto}
 *     network: {switch: ['{dir}/net.sock']}
 *
 * In `command` and `network.switch`, `{dir}` is the member's own folder, `{name}` its name and
 * `{index}` its place in the list, from 0.
 */
import { join, resolve } from 'node:path';
import type * as z from 'zod';
import type { Multiplexing } from '../../policies/index.ts';
import { qmpSocketOf } from '../command-line/monitors.ts';
import { UmbraError } from '../failure/failure.ts';
import { clusterFolder, memberFile, memberFolder } from '../host/folders.ts';
import { SOCKET_PATH_BYTES_MAX } from '../host/linux.ts';
import { CAPTURES, type CaptureMode } from '../protocol/capture-mode.ts';
import type { ClusterConfig, MemberConfig, ScheduleConfig } from '../protocol/cluster.ts';
import { contradictions } from './rules.ts';
import { type ClusterFile, clusterSchema, NAME, NAME_HELP } from './schema.ts';
import { parseText } from './text.ts';

const PROBLEMS_TOLD = 100;
const PROBLEM_CHARS = 500;
const DEFAULT_SLOT_MS = 100;
const DEFAULT_SLOTS = 2;
const DEFAULT_DIRTY_SHARE = 0.5;
const DEFAULT_QUEUE_LIMIT_MS = 300_000;
const DEFAULT_LIVE_SLOWDOWN = 0.25;
const DEFAULT_PERSIST_LIMIT_MS = 600_000;

/** Where a cluster of that name lives. `home` holds one folder a cluster. */
export function clusterDirectory(home: string, cluster: string): string {
  if (!NAME.test(cluster)) {
    const message = `${JSON.stringify(cluster)} is no cluster name: it ${NAME_HELP}`;
    throw new UmbraError({ code: 'E_CONFIG', message });
  }
  return join(home, cluster);
}

/**
 * Parses and checks a cluster.yaml.
 * @param file its path: relative paths inside are relative to its folder
 * @param home holds one folder a cluster
 * @throws UmbraError E_CONFIG, naming every problem by its path in the file
 */
export function parseClusterConfig(text: string, file: string, home: string): ClusterConfig {
  const yaml = parseText(text);
  if (yaml.problems !== undefined) throw invalid(file, yaml.problems);
  const parsed = clusterSchema.safeParse(yaml.value);
  if (!parsed.success) {
    throw invalid(file, parsed.error.issues.flatMap(describeIssue));
  }
  const { cluster, round, store, epochs, restore, network, checkpoint, persist } = parsed.data;
  const directory = clusterDirectory(home, cluster);
  const base = resolve(file, '..');
  const problems: string[] = [];
  const members = parsed.data.members.map((member, index) => {
    const { libvirt: uri, domain } = member;
    const name = member.name ?? domain ?? '';
    if (!NAME.test(name)) {
      problems.push(`members[${index}].name: ${JSON.stringify(name)} ${NAME_HELP}`);
    }
    if (uri !== undefined || domain !== undefined) {
      problems.push(...domainProblems(index, member));
      const own = memberFolder(directory, name);
      const qmp = memberFile(own, 'monitor');
      problems.push(...memberProblems(index, undefined, qmp, own));
      return {
        ...{ name, command: undefined, qmp, workingDirectory: base, directory: own },
        libvirt: { uri: uri ?? '', domain: domain ?? '' },
      };
    }
    const own = memberFolder(directory, name);
    const fill = (text: string) =>
      text.replaceAll('{dir}', own).replaceAll('{name}', name).replaceAll('{index}', String(index));
    const command = member.command?.map(fill);
    const qmp = member.qmp === undefined ? command && qmpSocketOf(command) : fill(member.qmp);
    const workingDirectory = resolve(base, member.workingDirectory ?? '.');
    // In a command line it is relative to where QEMU runs, in `qmp` to this file.
    const path = qmp && resolve(member.qmp === undefined ? workingDirectory : base, qmp);
    problems.push(...memberProblems(index, command, path, own));
    return {
      name,
      command,
      qmp: path ?? '',
      workingDirectory,
      directory: own,
    };
  });
  problems.push(...duplicates(members.map((member) => member.name)));
  problems.push(...contradictions(parsed.data));
  // With the cluster's name: several may share a store, and none may touch another's shadows.
  const shadowStore =
    store.directory === undefined ? directory : join(resolve(base, store.directory), cluster);
  const durable = persist && join(resolve(base, persist.to), cluster);
  if (durable !== undefined && [directory, shadowStore].some((one) => overlap(one, durable))) {
    problems.push(`persist.to: ${durable} must not overlap the cluster's folder or its store`);
  }
  if (problems.length > 0) throw invalid(file, problems);
  return {
    cluster,
    directory,
    shadowsDirectory: clusterFolder(shadowStore, 'shadows'),
    catalogueDirectory: clusterFolder(directory, 'epochs'),
    members,
    round: {
      capture: capturesOf(round.capture),
      cut: round.cut,
      disks: round.disks,
      hugePages: round.hugePages,
      compareEmulated: round.compareEmulated,
      stopDeadlineMs: round.stopDeadline,
      // Whatever else is wished for, the live phase ends by the bound or by its maximum.
      endWhen: [
        ...round.endWhen,
        { kind: 'memory-bound', factor: round.memoryBound },
        { kind: 'elapsed', ms: round.maxLive },
      ],
      multiplexing: multiplexingOf(round),
      inFlightBytes: round.inFlight,
    },
    store: {
      headroomBytes: store.headroom,
      budgetBytes: store.budget,
      recycle: store.recycle,
      delta: store.delta,
      foldAt: store.foldAt,
      queueLimitMs: store.whenFull === 'queue' ? (store.queueLimit ?? DEFAULT_QUEUE_LIMIT_MS) : 0,
    },
    schedule: checkpoint && scheduleOf(checkpoint),
    epochs: { keep: epochs.keep, keepForMs: epochs.keepFor },
    persist: persist && {
      directory: join(resolve(base, persist.to), cluster),
      mode: persist.mode,
      rate: persist.rate,
      parallel: persist.parallel,
      keep: persist.keep ?? epochs.keep,
      timeLimitMs: persist.timeLimit ?? DEFAULT_PERSIST_LIMIT_MS,
    },
    restore,
    switchSockets: switchSockets(network?.switch ?? [], members),
  };
}

/** One of them is the other, or inside of it: what empties one would empty the other. */
function overlap(a: string, b: string): boolean {
  return `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
}

function multiplexingOf(round: ClusterFile['round']): Multiplexing {
  const { multiplexing: kind, slot: slotMs = DEFAULT_SLOT_MS } = round;
  const { slots: atOnce = DEFAULT_SLOTS, dirtyShare = DEFAULT_DIRTY_SHARE } = round;
  return kind === 'parallel' ? { kind, slotMs, dirtyShare } : { kind, slotMs, atOnce };
}

function scheduleOf({
  every,
  mtbf,
  liveSlowdown,
}: NonNullable<ClusterFile['checkpoint']>): ScheduleConfig {
  return {
    interval:
      every === 'optimal'
        ? { kind: 'optimal', mtbfMs: mtbf ?? 0 }
        : { kind: 'fixed', everyMs: every },
    liveSlowdown: liveSlowdown ?? DEFAULT_LIVE_SLOWDOWN,
  };
}

function memberProblems(
  index: number,
  command: readonly string[] | undefined,
  qmp: string | undefined,
  directory: string,
): string[] {
  const at = `members[${index}]`;
  if (qmp === undefined) {
    return command === undefined
      ? [`${at}: give either command (Umbra starts the VM) or qmp (it runs already)`]
      : [`${at}.command: has no -qmp unix:PATH,server=on,wait=off, and qmp does not say where`];
  }
  return [
    [`${at}.qmp`, qmp],
    [at, memberFile(directory, 'migration')],
  ].flatMap(([where = '', path = '']) => {
    const bytes = Buffer.byteLength(path);
    if (bytes <= SOCKET_PATH_BYTES_MAX) return [];
    const limit = `too long for a unix socket (${SOCKET_PATH_BYTES_MAX})`;
    return [`${where}: ${bytes} bytes are ${limit}: ${path}`];
  });
}

/** Whose VM libvirt runs, it starts and reaches by itself. */
function domainProblems(index: number, member: ClusterFile['members'][number]): string[] {
  const at = `members[${index}]`;
  const { libvirt, domain, command, qmp } = member;
  const problems: string[] = [];
  if (libvirt === undefined) problems.push(`${at}.libvirt: says whose domain ${domain} is`);
  if (domain === undefined) problems.push(`${at}.domain: says which of ${libvirt}`);
  if (command !== undefined) problems.push(`${at}.command: libvirt starts its domains itself`);
  if (qmp !== undefined)
    problems.push(`${at}.qmp: give it without libvirt, or leave it to libvirt`);
  return problems;
}

function duplicates(names: readonly string[]): string[] {
  return names.flatMap((name, index) =>
    names.indexOf(name) === index ? [] : [`members[${index}].name: ${name} is there already`],
  );
}

function switchSockets(templates: readonly string[], members: readonly MemberConfig[]): string[] {
  const paths = members.flatMap(({ name, directory }, index) =>
    templates.map((template) =>
      template
        .replaceAll('{dir}', directory)
        .replaceAll('{name}', name)
        .replaceAll('{index}', String(index)),
    ),
  );
  return [...new Set(paths)];
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const at = formatPath(issue.path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${at === '' ? key : `${at}.${key}`}: no such option`);
  }
  return [at === '' ? issue.message : `${at}: ${issue.message}`];
}

function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}

function invalid(file: string, problems: readonly string[]): UmbraError {
  const message = `${file}: ${problems.length} problem${problems.length === 1 ? '' : 's'}`;
  return new UmbraError({
    code: 'E_CONFIG',
    message: [message, ...tellable(problems)].join('\n  '),
    hint: 'Correct the file; nothing was started.',
  });
}

/** As many, and as much of each, as anyone reads: a file may be wrong in every line. */
function tellable(problems: readonly string[]): string[] {
  const told = problems.slice(0, PROBLEMS_TOLD).map((problem) => {
    return problem.length > PROBLEM_CHARS ? `${problem.slice(0, PROBLEM_CHARS)}…` : problem;
  });
  const more = problems.length - told.length;
  return more > 0 ? [...told, `and ${more} more`] : told;
}

/** What `auto` stands for. */
const AUTO = CAPTURES;

function capturesOf(capture: ClusterFile['round']['capture']): readonly CaptureMode[] {
  if (capture === 'auto') return AUTO;
  return typeof capture === 'string' ? [capture] : capture;
}
