/** The shape of cluster.yaml, each option by itself: types, units, bounds, defaults. PURE. */
import * as z from 'zod';
import { LEAST_INTERVAL_MS } from '../../policies/index.ts';
import { CAPTURES, CUTS, DISK_MODES, HUGE_PAGE_MODES } from '../protocol/capture-mode.ts';
import { END_WHEN_HELP, parseEndCondition } from './end-when.ts';
import { DURATION_HELP, parseDuration, parseSize, SIZE_HELP } from './units.ts';

/** Names become folders, socket paths and labels. */
export const NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;
export const NAME_HELP = 'must be 1 to 32 of a-z, 0-9 and "-", and not begin or end with "-"';
const MEMBERS_MAX = 1000;
/** Timers of Node hold 2³¹ ms; nobody waits for longer than a day. */
const DURATION_MAX_MS = 86_400_000;
export const SLOT_MIN_MS = 50;
const MTBF_MIN_MS = 60_000;
const KEEP_FOR_MAX_MS = 8760 * 3_600_000;
const IN_FLIGHT_MIN = 2 ** 20;
const IN_FLIGHT_MAX = 2 ** 30;
const PERSIST_RATE_MIN = 2 ** 20;
const PERSIST_PARALLEL_MAX = 64;

const MULTIPLEXINGS = ['parallel', 'round-robin', 'finish-together'] as const;

const name = z.string().regex(NAME, NAME_HELP);

/** Paths and arguments: the kernel ends them at a NUL. */
const text = z.string().refine((value) => !value.includes('\0'), 'must not hold a NUL');

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

const mtbf = duration.refine((ms) => ms >= MTBF_MIN_MS, 'must be at least 1min');
const everySchema = quantity(
  (text) => (text === 'optimal' ? text : parseDuration(text)),
  EVERY_HELP,
)
  .refine((every) => every === 'optimal' || every >= LEAST_INTERVAL_MS, 'must be at least 1s')
  .refine((every) => every === 'optimal' || every <= DURATION_MAX_MS, 'must be a day at most');

const memberSchema = z.strictObject({
  /** Of a domain, by default the domain's. */
  name: name.optional(),
  /** argv of its QEMU. Without it the VM must run already, and `qmp` must say where. */
  command: z.array(text).min(1).max(4096).optional(),
  /** Its QMP unix socket; by default the one `command` makes. */
  qmp: text.min(1).optional(),
  /** URI of the libvirt that runs it, and its name there. */
  libvirt: text.min(1).max(4096).optional(),
  domain: text.min(1).max(255).optional(),
  /** What relative paths in `command` are relative to; by default the config file's folder. */
  workingDirectory: text.optional(),
});

export const clusterSchema = z.strictObject({
  cluster: name,
  members: z.array(memberSchema).min(1, 'must list at least one member').max(MEMBERS_MAX),
  round: z
    .strictObject({
      /** The longest a VM may stand stopped in a round that goes wrong. */
      stopDeadline: positiveDuration.default(10_000),
      /** How state is taken: the first that can be trusted, member by member; auto lists all. */
      capture: z
        .union([
          z.enum(['auto', ...CAPTURES]),
          z.array(z.enum(CAPTURES)).min(1, 'must list at least one'),
        ])
        .default('auto'),
      /** How background captures are made one cut; proxy/member/capture/background.ts. */
      cut: z.enum(CUTS).default('auto'),
      /** Disks the guests can write to: no part of epochs, or snapshotted at the cut. */
      disks: z.enum(DISK_MODES).default('leave'),
      /** What is joined into huge pages after a background capture, so that the next cut is short. */
      hugePages: z.enum(HUGE_PAGE_MODES).default('auto'),
      /** Without KVM, what precopy streamed is compared with the VM's memory; proxy/member/capture/precopy-support.ts. */
      compareEmulated: z.boolean().default(true),
      /** What ends the live phase of all members; the first that holds does. */
      endWhen: z.array(endCondition).min(1, 'must list at least one').prefault(['all-first-pass']),
      /** No member streams more than this many times its RAM while it runs. */
      memoryBound: z.number().min(1, 'must be at least 1: all memory once').default(2),
      /** The longest the live phase may last. */
      maxLive: positiveDuration.default(60_000),
      /** Whose streams flow at the same time (policies/multiplexing.ts). */
      multiplexing: z.enum(MULTIPLEXINGS).default('finish-together'),
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
      directory: text.optional(),
      /** Memory of the host that must stay free after a round's reservation. */
      headroom: size.default(256 * 2 ** 20),
      /** Memory this cluster's epochs and rounds may take on this host; without it, what is there. */
      budget: size.refine((bytes) => bytes > 0, 'must be more than zero').optional(),
      /** Keep the memory of the epoch that was retired last for the next round. */
      recycle: z.boolean().default(true),
      /** Store only the pages that differ from an earlier epoch; off: every epoch is whole. */
      delta: z.boolean().default(true),
      /** An epoch that differs by more than this share becomes the one others differ from. */
      foldAt: z.number().gt(0, 'must be more than 0').default(0.5),
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
      mtbf: mtbf.optional(),
      /** Share of its speed the job loses while memory streams, for `every: optimal`. */
      liveSlowdown: z.number().min(0).max(1).optional(),
    })
    .optional(),
  epochs: z
    .strictObject({
      /** The newest so many are never retired (policies/retention.ts). */
      keep: z.number().int().min(1, 'must keep at least 1').default(2),
      /** Nor are those younger than this. */
      keepFor: duration
        .refine((ms) => ms > 0, 'must be more than zero')
        .refine((ms) => ms <= KEEP_FOR_MAX_MS, 'must be 8760h at most: a year')
        .optional(),
    })
    .prefault({}),
  /** Epochs on disk, where they outlive the host's memory. */
  persist: z
    .strictObject({
      /** Folder; it gets one a cluster. It must not be on tmpfs. */
      to: text.min(1),
      /** Whether an epoch is published first, or on disk first. */
      mode: z.enum(['background', 'before-commit']).default('background'),
      /** Content a second, before compression; without it, what the disk takes. */
      rate: size
        .refine((bytes) => bytes >= PERSIST_RATE_MIN, 'must be at least 1MiB (a second)')
        .optional(),
      /** Members persisted at once. */
      parallel: z
        .number()
        .int()
        .min(1, 'must be at least 1')
        .max(PERSIST_PARALLEL_MAX, `must be at most ${PERSIST_PARALLEL_MAX}`)
        .default(2),
      /** Epochs kept on disk; by default as many as in memory. */
      keep: z.number().int().min(1, 'must keep at least 1').optional(),
      /** The longest a round waits for the disk; for before-commit. */
      timeLimit: positiveDuration.optional(),
    })
    .optional(),
  restore: z.strictObject({ mode: z.enum(['auto', 'map', 'stream']).default('auto') }).prefault({}),
  network: z.strictObject({ switch: z.array(text).min(1) }).optional(),
});

/** A file whose every option is right by itself. */
export type ClusterFile = z.infer<typeof clusterSchema>;
