/**
 * cluster.yaml: what the operator writes, checked whole before anything is touched.
 *
 *     cluster: demo
 *     members:
 *       - name: n0
 *         command: [qemu-system-x86_64, …, -qmp, 'unix:{dir}/qmp.sock,server=on,wait=off']
 *       - name: n1
 *         qmp: /run/vm/n1/qmp.sock          # a VM that runs already
 *     round: {capture: auto, stopDeadline: 10s, endWhen: [all-first-pass], memoryBound: 2, maxLive: 60s}
 *     store: {headroom: 256MiB}
 *     epochs: {keep: 2}
 *     restore: {mode: auto}
 *     network: {switch: ['{dir}/net.sock']}
 *
 * In `command` and `network.switch`, `{dir}` is the member's own folder, `{name}` its name and
 * `{index}` its place in the list, from 0.
 */
import { join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import type { EndCondition } from '../policies/index.ts';
import { qmpSocketOf } from './agent/command-line.ts';
import { END_WHEN_HELP, parseEndCondition } from './end-when.ts';
import { UmbraError } from './failure.ts';
import { DURATION_HELP, parseDuration, parseSize, SIZE_HELP } from './units.ts';

/** Names become folders, socket paths and labels. */
const NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;
const NAME_HELP = 'must be 1 to 32 of a-z, 0-9 and "-", and not begin or end with "-"';
/** The longest path of a unix socket (sun_path, unix(7)). */
const SOCKET_PATH_LIMIT = 107;
export const MEMBERS_MAX = 1000;
/** Timers of Node hold 2³¹ ms; nobody waits for longer than a day. */
const DURATION_MAX_MS = 86_400_000;
/** The longest name of a socket we make in a member's folder. */
const OWN_SOCKET = 'migration.sock';

const name = z.string().regex(NAME, NAME_HELP);

function quantity<T>(parse: (text: string) => T | undefined, help: string) {
  return z.string(`must be ${help}`).transform((text, context) => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: `must be ${help}; found ${JSON.stringify(text)}` });
    return z.NEVER;
  });
}

const endCondition = quantity(parseEndCondition, END_WHEN_HELP);
const size = quantity(parseSize, SIZE_HELP);
const duration = quantity(parseDuration, DURATION_HELP);
const positiveDuration = duration
  .refine((ms) => ms > 0, 'must be more than zero')
  .refine((ms) => ms <= DURATION_MAX_MS, 'must be a day at most');

const memberSchema = z.strictObject({
  name,
  /** argv of its QEMU. Without it the VM must run already, and `qmp` must say where. */
  command: z.array(z.string()).min(1).max(4096).optional(),
  /** Its QMP unix socket; by default the one `command` makes. */
  qmp: z.string().min(1).optional(),
  /** What relative paths in `command` are relative to; by default the config file's folder. */
  workingDirectory: z.string().optional(),
});

const clusterSchema = z.strictObject({
  cluster: name,
  members: z.array(memberSchema).min(1, 'must list at least one member').max(MEMBERS_MAX),
  round: z
    .strictObject({
      /** The longest a VM may stand stopped in a round that goes wrong. */
      stopDeadline: positiveDuration.default(10_000),
      /** How state is taken; `auto` is precopy wherever QEMU's dirty log can be trusted. */
      capture: z.enum(['auto', 'precopy', 'stop-copy']).default('auto'),
      /** What ends the live phase of all members; the first that holds does. */
      endWhen: z.array(endCondition).min(1, 'must list at least one').prefault(['all-first-pass']),
      /** No member streams more than this many times its RAM while it runs. */
      memoryBound: z.number().min(1, 'must be at least 1: all memory once').default(2),
      /** The longest the live phase may last. */
      maxLive: positiveDuration.default(60_000),
    })
    .prefault({}),
  store: z
    .strictObject({
      /** Folder for shadows; by default in the cluster's own folder, on tmpfs. */
      directory: z.string().optional(),
      /** Memory of the host that must stay free after a round's reservation. */
      headroom: size.default(256 * 2 ** 20),
    })
    .prefault({}),
  epochs: z
    .strictObject({ keep: z.number().int().min(1, 'must keep at least 1').default(2) })
    .prefault({}),
  restore: z.strictObject({ mode: z.enum(['auto', 'map', 'stream']).default('auto') }).prefault({}),
  network: z.strictObject({ switch: z.array(z.string()).min(1) }).optional(),
});

export interface MemberConfig {
  readonly name: string;
  readonly command: readonly string[] | undefined;
  readonly qmp: string;
  readonly workingDirectory: string;
  /** The member's own folder: sockets, logs, journal. */
  readonly directory: string;
}

export interface ClusterConfig {
  readonly cluster: string;
  /** The cluster's folder, 0700: everything of it is below. */
  readonly directory: string;
  readonly shadowsDirectory: string;
  readonly catalogueDirectory: string;
  readonly members: readonly MemberConfig[];
  readonly round: {
    readonly capture: 'auto' | 'precopy' | 'stop-copy';
    readonly stopDeadlineMs: number;
    readonly endWhen: readonly EndCondition[];
  };
  readonly store: { readonly headroomBytes: number };
  readonly epochs: { readonly keep: number };
  readonly restore: { readonly mode: 'auto' | 'map' | 'stream' };
  /** Sockets of the guests' network cards, for Umbra's own switch. */
  readonly switchSockets: readonly string[];
}

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
  const document = parseDocument(text);
  if (document.errors.length > 0) {
    throw invalid(
      file,
      document.errors.map((error) => error.message.split('\n')[0] ?? ''),
    );
  }
  const parsed = clusterSchema.safeParse(document.toJS({ maxAliasCount: 100 }));
  if (!parsed.success) {
    throw invalid(file, parsed.error.issues.flatMap(describeIssue));
  }
  const { cluster, round, store, epochs, restore, network } = parsed.data;
  const directory = clusterDirectory(home, cluster);
  const base = resolve(file, '..');
  const problems: string[] = [];
  const members = parsed.data.members.map((member, index) => {
    const own = join(directory, 'vm', member.name);
    const fill = (text: string) =>
      text
        .replaceAll('{dir}', own)
        .replaceAll('{name}', member.name)
        .replaceAll('{index}', String(index));
    const command = member.command?.map(fill);
    const qmp = member.qmp === undefined ? command && qmpSocketOf(command) : fill(member.qmp);
    const workingDirectory = resolve(base, member.workingDirectory ?? '.');
    // In a command line it is relative to where QEMU runs, in `qmp` to this file.
    const path = qmp && resolve(member.qmp === undefined ? workingDirectory : base, qmp);
    problems.push(...memberProblems(index, command, path, own));
    return {
      name: member.name,
      command,
      qmp: path ?? '',
      workingDirectory,
      directory: own,
    };
  });
  problems.push(...duplicates(members.map((member) => member.name)));
  if (problems.length > 0) throw invalid(file, problems);
  // With the cluster's name: several may share a store, and none may touch another's shadows.
  const shadowStore =
    store.directory === undefined ? directory : join(resolve(base, store.directory), cluster);
  return {
    cluster,
    directory,
    shadowsDirectory: join(shadowStore, 'shadows'),
    catalogueDirectory: join(directory, 'epochs'),
    members,
    round: {
      capture: round.capture,
      stopDeadlineMs: round.stopDeadline,
      // Whatever else is wished for, the live phase ends by the bound or by its maximum.
      endWhen: [
        ...round.endWhen,
        { kind: 'memory-bound', factor: round.memoryBound },
        { kind: 'elapsed', ms: round.maxLive },
      ],
    },
    store: { headroomBytes: store.headroom },
    epochs,
    restore,
    switchSockets: switchSockets(network?.switch ?? [], members),
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
    [at, join(directory, OWN_SOCKET)],
  ].flatMap(([where = '', path = '']) => {
    const bytes = Buffer.byteLength(path);
    if (bytes <= SOCKET_PATH_LIMIT) return [];
    const limit = `too long for a unix socket (${SOCKET_PATH_LIMIT})`;
    return [`${where}: ${bytes} bytes are ${limit}: ${path}`];
  });
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
    message: [message, ...problems].join('\n  '),
    hint: 'Correct the file; nothing was started.',
  });
}
