/**
 * cluster.yaml: what the operator writes, checked whole before anything is touched.
 *
 *     cluster: demo
 *     members:
 *       - name: n0
 *         command: [qemu-system-x86_64, …, -qmp, 'unix:{dir}/qmp.sock,server=on,wait=off']
 *       - name: n1
 *         qmp: /run/vm/n1/qmp.sock          # a VM that runs already
 *     round: {capture: auto, stopDeadline: 10s, endWhen: [no-progress], memoryBound: 2, maxLive: 60s,
 *             multiplexing: finish-together, slots: 2, slot: 100ms, inFlight: 64MiB}
 *     store: {budget: 8GiB, headroom: 256MiB, whenFull: refuse}
 *     checkpoint: {every: 10min}                # or {every: optimal, mtbf: 24h}
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
import {
  type EndCondition,
  type Interval,
  LEAST_INTERVAL_MS,
  type Multiplexing,
} from '../policies/index.ts';
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
const SLOT_MIN_MS = 50;
const IN_FLIGHT_MIN = 2 ** 20;
const IN_FLIGHT_MAX = 2 ** 30;
const DEFAULT_SLOT_MS = 100;
const DEFAULT_SLOTS = 2;
const DEFAULT_DIRTY_SHARE = 0.5;
const DEFAULT_QUEUE_LIMIT_MS = 300_000;
const DEFAULT_LIVE_SLOWDOWN = 0.25;

const name = z.string().regex(NAME, NAME_HELP);

function quantity<T>(parse: (text: string) => T | undefined, help: string) {
  return z.string(`must be ${help}`).transform((text, context) => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: `must be ${help}; found ${JSON.stringify(text)}` });
    return z.NEVER;
  });
}

const EVERY_HELP = `optimal, or ${DURATION_HELP}`;
const endCondition = quantity(parseEndCondition, END_WHEN_HELP);
const size = quantity(parseSize, SIZE_HELP);
const duration = quantity(parseDuration, DURATION_HELP);
const positiveDuration = duration
  .refine((ms) => ms > 0, 'must be more than zero')
  .refine((ms) => ms <= DURATION_MAX_MS, 'must be a day at most');

const positiveLongDuration = duration.refine((ms) => ms > 0, 'must be more than zero');
const everySchema = quantity(
  (text) => (text === 'optimal' ? text : parseDuration(text)),
  EVERY_HELP,
)
  .refine((every) => every === 'optimal' || every >= LEAST_INTERVAL_MS, 'must be at least 1s')
  .refine((every) => every === 'optimal' || every <= DURATION_MAX_MS, 'must be a day at most');

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
      /** Whose streams flow at the same time (policies/multiplexing.ts). */
      multiplexing: z.enum(['parallel', 'round-robin', 'finish-together']).default('parallel'),
      /** How many streams flow at once; not for parallel. */
      slots: z.number().int().min(1, 'must be at least 1: somebody has to stream').optional(),
      /** How long a slot lasts. */
      slot: duration
        .refine((ms) => ms >= SLOT_MIN_MS, `must be at least ${SLOT_MIN_MS}ms`)
        .optional(),
      /** Share of the slots for pages sent before, while others are sent first; for parallel. */
      dirtyShare: z.number().gt(0, 'must be more than 0').max(1, 'must be at most 1').optional(),
      /** The most a proxy keeps of a stream outside of the reserved shadow. */
      inFlight: size
        .refine((bytes) => bytes >= IN_FLIGHT_MIN, 'must be at least 1MiB')
        .refine((bytes) => bytes <= IN_FLIGHT_MAX, 'must be at most 1GiB')
        .default(64 * 2 ** 20),
    })
    .prefault({}),
  store: z
    .strictObject({
      /** Folder for shadows; by default in the cluster's own folder, on tmpfs. */
      directory: z.string().optional(),
      /** Memory of the host that must stay free after a round's reservation. */
      headroom: size.default(256 * 2 ** 20),
      /** Memory this cluster's epochs and rounds may take on this host; without it, what is there. */
      budget: size.refine((bytes) => bytes > 0, 'must be more than zero').optional(),
      /** Keep the memory of the epoch that was retired last for the next round. */
      recycle: z.boolean().default(true),
      /** What becomes of a round that does not fit. */
      whenFull: z.enum(['refuse', 'queue']).default('refuse'),
      /** How long a queued round waits for memory before it is refused. */
      queueLimit: positiveDuration.optional(),
    })
    .prefault({}),
  /** Checkpoints by themselves, at a period or at the optimum (policies/interval.ts). */
  checkpoint: z
    .strictObject({
      every: everySchema,
      /** Mean time between failures of the hosts the cluster runs on, for `every: optimal`. */
      mtbf: positiveLongDuration.optional(),
      /** Share of its speed the job loses while memory streams, for `every: optimal`. */
      liveSlowdown: z.number().min(0).max(1).optional(),
    })
    .optional(),
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

export interface Schedule {
  readonly interval: Interval;
  readonly liveSlowdown: number;
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
    readonly multiplexing: Multiplexing;
    readonly inFlightBytes: number;
  };
  readonly store: {
    readonly headroomBytes: number;
    readonly budgetBytes: number | undefined;
    readonly recycle: boolean;
    /** How long a round that does not fit waits; 0: it is refused at once. */
    readonly queueLimitMs: number;
  };
  /** Checkpoints by themselves; undefined: only when asked for. */
  readonly schedule: Schedule | undefined;
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
  const { cluster, round, store, epochs, restore, network, checkpoint } = parsed.data;
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
  problems.push(...contradictions(parsed.data));
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
      multiplexing: multiplexingOf(round),
      inFlightBytes: round.inFlight,
    },
    store: {
      headroomBytes: store.headroom,
      budgetBytes: store.budget,
      recycle: store.recycle,
      queueLimitMs: store.whenFull === 'queue' ? (store.queueLimit ?? DEFAULT_QUEUE_LIMIT_MS) : 0,
    },
    schedule: checkpoint && scheduleOf(checkpoint),
    epochs,
    restore,
    switchSockets: switchSockets(network?.switch ?? [], members),
  };
}

type Settings = z.infer<typeof clusterSchema>;

function multiplexingOf(round: Settings['round']): Multiplexing {
  const { multiplexing: kind, slot: slotMs = DEFAULT_SLOT_MS } = round;
  const { slots: atOnce = DEFAULT_SLOTS, dirtyShare = DEFAULT_DIRTY_SHARE } = round;
  return kind === 'parallel' ? { kind, slotMs, dirtyShare } : { kind, slotMs, atOnce };
}

function scheduleOf({ every, mtbf, liveSlowdown }: NonNullable<Settings['checkpoint']>): Schedule {
  return {
    interval:
      every === 'optimal'
        ? { kind: 'optimal', mtbfMs: mtbf ?? 0 }
        : { kind: 'fixed', everyMs: every },
    liveSlowdown: liveSlowdown ?? DEFAULT_LIVE_SLOWDOWN,
  };
}

/** Settings that cannot both be meant. What is given and has no effect is a misunderstanding, too. */
function contradictions({ round, store, checkpoint, members }: Settings): string[] {
  const problems: string[] = [];
  const { multiplexing, slots, dirtyShare } = round;
  if (multiplexing === 'parallel' && slots !== undefined) {
    problems.push('round.slots: multiplexing parallel lets all stream; choose round-robin, say');
  }
  if (slots !== undefined && slots > members.length) {
    problems.push(`round.slots: ${slots} of ${members.length} members cannot stream at once`);
  }
  if (multiplexing !== 'parallel' && dirtyShare !== undefined) {
    problems.push(`round.dirtyShare: only multiplexing parallel shares slots, not ${multiplexing}`);
  }
  problems.push(...endWhenProblems(round));
  if (store.whenFull === 'refuse' && store.queueLimit !== undefined) {
    problems.push('store.queueLimit: nothing is queued unless store.whenFull is queue');
  }
  if (store.budget !== undefined && store.budget < round.inFlight * members.length) {
    const needed = round.inFlight * members.length;
    problems.push(`store.budget: ${store.budget} bytes are less than in-flight alone (${needed})`);
  }
  if (checkpoint?.every === 'optimal' && checkpoint.mtbf === undefined) {
    problems.push('checkpoint.mtbf: every: optimal needs it, as "mtbf: 24h"');
  }
  for (const option of ['mtbf', 'liveSlowdown'] as const) {
    if (checkpoint === undefined || checkpoint.every === 'optimal') break;
    if (checkpoint[option] === undefined) continue;
    problems.push(`checkpoint.${option}: has no effect on a fixed period; use every: optimal`);
  }
  return problems;
}

/** A condition that can never be the first to hold is not what its author meant. */
function endWhenProblems({ endWhen, stopDeadline, maxLive }: Settings['round']): string[] {
  const problems: string[] = [];
  const earlier = endWhen.find(({ kind }) => kind.endsWith('first-pass'));
  for (const [index, condition] of endWhen.entries()) {
    const at = `round.endWhen[${index}]`;
    const { kind } = condition;
    if (endWhen.findIndex((one) => one.kind === kind) < index) {
      problems.push(`${at}: ${kind} is there already`);
    } else if (earlier !== undefined && condition !== earlier) {
      problems.push(`${at}: ${kind} never holds before ${earlier.kind}, which is listed, too`);
    }
    if (condition.kind !== 'predicted-downtime') continue;
    if (condition.ms >= stopDeadline) {
      problems.push(`${at}: a downtime of ${condition.ms} ms breaks round.stopDeadline`);
    }
  }
  if (maxLive < SLOT_MIN_MS) problems.push(`round.maxLive: must be at least ${SLOT_MIN_MS}ms`);
  return problems;
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
