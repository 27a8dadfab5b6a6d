/**
 * The shape of cluster.yaml, each option by itself: types, units, bounds, defaults, help. PURE.
 *
 * Options that contradict each other are found by rules.ts. `umbra explain` and the reference in
 * README.md are printed from this schema (explain.ts).
 */
import * as z from 'zod';
import { LEAST_INTERVAL_MS } from '../../policies/index.ts';
import { clockChoiceSchema, restoreChoiceSchema } from '../protocol/restore-mode.ts';
import { durationMsSchema } from '../protocol/round-settings.ts';
import { duration, name, OPTION_HELP, parsed, size, text } from './option.ts';
import { roundOptions } from './round-options.ts';
import { DURATION_HELP, parseDuration } from './units.ts';

const MEMBERS_MAX = 1000;
const DAY_MS = 86_400_000;
const MTBF_MS_MIN = 60_000;
const KEEP_FOR_MS_MAX = 8760 * 3_600_000;
const PERSIST_RATE_MIN = 2 ** 20;
const PERSIST_PARALLEL_MAX = 64;
const EVERY_HELP = `optimal, or ${DURATION_HELP}`;

/** Defaults of options that have an effect only together with another, and so may be absent. */
export const DEFAULTS = {
  queueLimitMs: 300_000,
  persistLimitMs: 600_000,
  liveSlowdown: 0.25,
} as const;

const limitedDuration = duration.pipe(durationMsSchema);
const every = parsed((value) => (value === 'optimal' ? value : parseDuration(value)), EVERY_HELP)
  .refine((value) => value === 'optimal' || value >= LEAST_INTERVAL_MS, 'must be at least 1s')
  .refine((value) => value === 'optimal' || value <= DAY_MS, 'must be a day at most');

const memberOptions = z.strictObject({
  name: name.optional().register(OPTION_HELP, {
    policy: 'members',
    unit: '1 to 32 of a-z, 0-9 and "-"',
    usual: 'the name of its domain; needed without libvirt',
    effect: 'The name of the member. It becomes part of folder names and socket paths.',
  }),
  command: z.array(text).min(1).max(4096).optional().register(OPTION_HELP, {
    policy: 'members',
    unit: 'list of words',
    usual: 'none: the VM runs already',
    effect: 'The command line of its QEMU: Umbra starts the VM. It must make a QMP socket (-qmp).',
  }),
  qmp: text.min(1).optional().register(OPTION_HELP, {
    policy: 'members',
    unit: 'path of a unix socket',
    usual: 'the one that command makes',
    effect: 'The QMP socket of its QEMU. A VM without command must run already.',
  }),
  libvirt: text.min(1).max(4096).optional().register(OPTION_HELP, {
    policy: 'members',
    unit: 'URI of libvirt',
    usual: 'none',
    effect: 'The libvirt that runs the VM, as qemu:///system. It needs domain.',
  }),
  domain: text.min(1).max(255).optional().register(OPTION_HELP, {
    policy: 'members',
    unit: 'name',
    usual: 'none',
    effect: 'The name of the VM there.',
  }),
  workingDirectory: text.optional().register(OPTION_HELP, {
    policy: 'members',
    unit: 'folder',
    usual: 'the folder of cluster.yaml',
    effect: 'The folder in which QEMU is started: relative paths in command are relative to it.',
  }),
});

const storeOptions = z.strictObject({
  directory: text.optional().register(OPTION_HELP, {
    policy: 'memory-budget',
    unit: 'folder, on tmpfs',
    usual: 'the cluster’s own',
    effect: 'Where shadows are kept, in one folder for each cluster.',
  }),
  headroom: size.default(256 * 2 ** 20).register(OPTION_HELP, {
    policy: 'memory-budget',
    unit: 'size',
    quantity: 'size',
    effect: 'Memory of the host that must stay free after a round has reserved its own.',
  }),
  budget: size
    .refine((bytes) => bytes > 0, 'must be more than zero')
    .optional()
    .register(OPTION_HELP, {
      policy: 'memory-budget',
      unit: 'size',
      usual: 'none: what the host has, less store.headroom',
      effect:
        'The most memory of this host that the cluster takes: its epochs, the shadows of a round ' +
        '(all RAM of a member, or what may differ from an earlier epoch) and what is in flight. ' +
        'A round that would need more is not begun; the error names the missing bytes.',
    }),
  recycle: z
    .boolean()
    .default(true)
    .register(OPTION_HELP, {
      policy: 'memory-budget',
      unit: 'true or false',
      effect:
        'Keeps the memory of the epoch that was retired last for the next round, which then ' +
        'streams several times faster than into fresh memory. A round needs that memory in any ' +
        'case; umbra rm frees it.',
    }),
  delta: z
    .boolean()
    .default(true)
    .register(OPTION_HELP, {
      policy: 'memory-budget',
      unit: 'true or false',
      effect:
        'Stores only the pages that differ from an earlier epoch. Pages beyond what the round ' +
        'has reserved are counted against the budget as they come; a round that outgrows the ' +
        'budget ends, and the VMs run on. false: every epoch is stored whole.',
    }),
  foldAt: z
    .number()
    .gt(0, 'must be more than 0')
    .default(0.5)
    .register(OPTION_HELP, {
      policy: 'memory-budget',
      unit: 'share of an epoch’s memory, more than 0',
      effect:
        'An epoch that differs from its base by more than this share is written anew, whole, in ' +
        'the background; later epochs are stored as differences from it. This takes the memory ' +
        'of one more epoch for as long as older epochs need the old base.',
    }),
  whenFull: z.enum(['refuse', 'queue']).default('refuse').register(OPTION_HELP, {
    policy: 'memory-budget',
    unit: 'refuse or queue',
    effect: 'Refuses a round that does not fit, or lets it wait until epochs have been retired.',
  }),
  queueLimit: limitedDuration.optional().register(OPTION_HELP, {
    policy: 'memory-budget',
    unit: 'duration',
    quantity: 'duration',
    usualValue: DEFAULTS.queueLimitMs,
    usual: 'with whenFull: queue',
    effect: 'How long a queued round waits before it is refused.',
  }),
});

const epochsOptions = z.strictObject({
  keep: z
    .number()
    .int()
    .min(1, 'must keep at least 1')
    .default(2)
    .register(OPTION_HELP, {
      policy: 'retention',
      unit: 'epochs, at least 1',
      effect:
        'How many epochs are kept, newest first; pinned ones count among them, and are kept ' +
        'beyond. Others are removed after a commit, before the next round asks for memory.',
    }),
  keepFor: duration
    .refine((ms) => ms > 0, 'must be more than zero')
    .refine((ms) => ms <= KEEP_FOR_MS_MAX, 'must be 8760h at most: a year')
    .optional()
    .register(OPTION_HELP, {
      policy: 'retention',
      unit: 'duration since the commit, at most 8760h',
      usual: 'none: age is no reason to keep an epoch',
      effect:
        'Younger epochs are kept, however many there are. Choose it with store.budget in mind: a ' +
        'round that does not fit beside them is refused, or waits until one is old enough.',
    }),
});

const persistOptions = z.strictObject({
  to: text.min(1).register(OPTION_HELP, {
    policy: 'durable-tier',
    unit: 'folder on a disk',
    usual: 'none: epochs live in memory only',
    effect:
      'Where every committed epoch is written, compressed and checksummed, in one folder for ' +
      'each cluster. umbra restore reads an epoch from there when it is not in memory. The ' +
      'folder must not be on tmpfs.',
  }),
  mode: z
    .enum(['background', 'before-commit'])
    .default('background')
    .register(OPTION_HELP, {
      policy: 'durable-tier',
      unit: 'background or before-commit',
      effect:
        'background: an epoch is committed when it is in memory, and is written to disk while ' +
        'the job runs; a failure is reported and tried again. before-commit: it is committed ' +
        'when it is on disk as well; a failure aborts the round. The VMs run in both.',
    }),
  rate: size
    .refine((bytes) => bytes >= PERSIST_RATE_MIN, 'must be at least 1MiB (a second)')
    .optional()
    .register(OPTION_HELP, {
      policy: 'durable-tier',
      unit: 'size, a second',
      usual: 'none: what the disk and idle cores take',
      effect: 'The most that is read from memory a second, before compression, for all members.',
    }),
  parallel: z
    .number()
    .int()
    .min(1, 'must be at least 1')
    .max(PERSIST_PARALLEL_MAX, `must be at most ${PERSIST_PARALLEL_MAX}`)
    .default(2)
    .register(OPTION_HELP, {
      policy: 'durable-tier',
      unit: 'members, 1 to 64',
      effect: 'How many members are written to disk at once, at the lowest priority there is.',
    }),
  keep: z.number().int().min(1, 'must keep at least 1').optional().register(OPTION_HELP, {
    policy: 'durable-tier',
    unit: 'epochs, at least 1',
    usual: 'as epochs.keep',
    effect: 'How many epochs are kept on disk. One is removed when a newer one is whole there.',
  }),
  timeLimit: limitedDuration.optional().register(OPTION_HELP, {
    policy: 'durable-tier',
    unit: 'duration',
    quantity: 'duration',
    usualValue: DEFAULTS.persistLimitMs,
    usual: 'with mode: before-commit',
    effect: 'How long a round waits for the disk before it is aborted; the VMs run meanwhile.',
  }),
});

const checkpointOptions = z.strictObject({
  every: every.register(OPTION_HELP, {
    policy: 'interval',
    unit: 'duration, at least 1s, or optimal',
    usual: 'none: a checkpoint is taken when asked for',
    effect:
      'Takes checkpoints by itself, this long after the last one ended. optimal is Daly’s ' +
      'interval, from what a checkpoint costs and checkpoint.mtbf.',
  }),
  mtbf: duration
    .refine((ms) => ms >= MTBF_MS_MIN, 'must be at least 1min')
    .optional()
    .register(OPTION_HELP, {
      policy: 'interval',
      unit: 'duration, at least 1min',
      usual: 'none; needed by every: optimal',
      effect: 'Mean time between failures of the hosts the cluster runs on, all of them together.',
    }),
  liveSlowdown: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .register(OPTION_HELP, {
      policy: 'interval',
      unit: 'share of the job’s speed, 0 to 1',
      usualValue: DEFAULTS.liveSlowdown,
      effect:
        'What the job loses while memory streams. With every: optimal, a checkpoint costs its ' +
        'downtime and this share of its live phase.',
    }),
});

export const clusterSchema = z.strictObject({
  cluster: name.register(OPTION_HELP, {
    policy: 'members',
    unit: '1 to 32 of a-z, 0-9 and "-"',
    usual: 'none; needed',
    effect: 'The name of the cluster.',
  }),
  members: z.array(memberOptions).min(1, 'must list at least one member').max(MEMBERS_MAX),
  round: roundOptions.prefault({}),
  store: storeOptions.prefault({}),
  checkpoint: checkpointOptions.optional(),
  epochs: epochsOptions.prefault({}),
  persist: persistOptions.optional(),
  restore: z
    .strictObject({
      mode: restoreChoiceSchema.default('auto').register(OPTION_HELP, {
        policy: 'restore',
        unit: 'map, stream or auto',
        usual: 'map where the VM allows it',
        effect:
          'map: the VM maps its memory from the epoch, within milliseconds, and keeps that ' +
          'memory for as long as it runs. stream: all of it is sent into a VM with memory of its ' +
          'own.',
      }),
      clock: clockChoiceSchema.default('keep').register(OPTION_HELP, {
        policy: 'restore',
        unit: 'keep or catch-up',
        effect:
          'keep: a guest’s wall clock goes on from the cut, and so lags by the age of the epoch; ' +
          'the report says by how much. catch-up: when all VMs run, qemu-guest-agent sets the ' +
          'clock of each guest that runs it to the host’s.',
      }),
    })
    .prefault({}),
  network: z
    .strictObject({
      switch: z.array(text).min(1).register(OPTION_HELP, {
        policy: 'network',
        unit: 'paths of unix sockets',
        usual: 'none',
        effect: 'Umbra’s own switch connects these -netdev stream sockets of the members.',
      }),
    })
    .optional(),
});

/** A file whose every option is right by itself. */
export type ClusterFile = z.infer<typeof clusterSchema>;
