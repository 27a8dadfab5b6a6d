/** Options of cluster.yaml below `round`: spelling, defaults, help. PURE. */
import * as z from 'zod';
import {
  CAPTURES,
  captureSchema,
  dirtyShareSchema,
  durationMsSchema,
  memoryBoundSchema,
  roundConfigSchema,
  SLOT_MS_MIN,
  slotMsSchema,
  slotsSchema,
} from '../protocol/round-settings.ts';
import { END_WHEN_HELP, parseEndCondition } from './end-when.ts';
import { duration, OPTION_HELP, parsed, size } from './option.ts';

const { cut, disks, hugePages, compareEmulated, prove, inFlightBytes } = roundConfigSchema.shape;
const MULTIPLEXINGS = ['parallel', 'round-robin', 'finish-together'] as const;

/** Defaults of options that have an effect only together with another, and so may be absent. */
export const ROUND_DEFAULTS = { slots: 2, slotMs: 100, dirtyShare: 0.5 } as const;

const endCondition = parsed(parseEndCondition, END_WHEN_HELP);

export const roundOptions = z.strictObject({
  capture: z
    .union([z.enum(['auto', ...CAPTURES]), z.array(captureSchema).min(1, 'must list at least one')])
    .default('auto')
    .register(OPTION_HELP, {
      policy: 'capture',
      unit: 'tracked, background, precopy or stop-copy; a list of them; or auto',
      usual: 'tracked, background, precopy, stop-copy',
      effect:
        'How the state of a member is captured. The first in the list that works is taken; Umbra ' +
        'finds out by trying, and reports its choice. tracked: the kernel marks what a VM writes ' +
        '(Linux 6.7), and an epoch costs just that; its first epoch is captured by precopy or ' +
        'stop-copy. background: the VM stops for an instant, ' +
        'and its memory of that instant is saved while it runs on. precopy: memory is streamed ' +
        'while the VM runs, and the VM stops for the rest. stop-copy: the VM stops for all of it.',
    }),
  cut: cut.default('auto').register(OPTION_HELP, {
    policy: 'capture',
    unit: 'frames-held, all-stopped or auto',
    usual: 'frames-held where that is possible, else all-stopped',
    effect:
      'How background captures become one consistent cut. frames-held: a VM that was captured ' +
      'runs on, but the network frames it sends are held until all VMs have been captured. ' +
      'all-stopped: every VM stays stopped until all have been captured.',
  }),
  disks: disks.default('leave').register(OPTION_HELP, {
    policy: 'capture',
    unit: 'leave or snapshot',
    effect:
      'Disks that guests can write to. leave: they are not part of epochs; background capture ' +
      'refuses them, other captures warn. snapshot: background capture freezes them at the cut, ' +
      'with all VMs stopped; from then on the VMs write to qcow2 layers beside them. Other ' +
      'captures are refused.',
  }),
  hugePages: hugePages.default('auto').register(OPTION_HELP, {
    policy: 'capture',
    unit: 'auto, used, all or leave',
    effect:
      'Background capture splits the huge pages of a VM, and the next cut takes 25 ms for each ' +
      'GiB of small pages. used: after a round, the kernel is asked to join the pages the guest ' +
      'uses. all: also those it does not use; a cut then takes a few milliseconds whatever the ' +
      'size of the VM, and all its RAM is backed by memory. auto: those it uses; the rest only ' +
      'while an eighth of the host’s memory stays free beside what a round takes, and if the VM ' +
      'has no balloon. leave: none; the kernel joins them some day.',
  }),
  compareEmulated: compareEmulated.default(true).register(OPTION_HELP, {
    policy: 'capture',
    unit: 'true or false',
    effect:
      'For a VM without KVM that is captured by precopy. QEMU’s emulator can miss a dirtied ' +
      'page; so while the VM is stopped, the streamed memory is compared with its own (about 0.5 ' +
      's a GiB), and missed pages are corrected and reported. false: QEMU’s dirty log is ' +
      'trusted. With KVM nothing is compared.',
  }),
  prove: prove.default('never').register(OPTION_HELP, {
    policy: 'capture',
    unit: 'never, first or always',
    effect:
      'Loads an epoch into throw-away QEMUs beside the running VMs, paused, without disks and ' +
      'network, before it is committed; one that does not load aborts the round. first: the ' +
      'first epoch of each daemon. umbra checkpoint --prove asks for it once.',
  }),
  stopDeadline: duration
    .pipe(durationMsSchema)
    .default(10_000)
    .register(OPTION_HELP, {
      policy: 'capture',
      unit: 'duration',
      quantity: 'duration',
      effect:
        'The longest that a VM stays stopped in a round that fails, whatever process dies. The ' +
        'round is given up after four fifths of it; the rest is for resuming the VMs.',
    }),
  inFlight: size
    .pipe(inFlightBytes)
    .default(64 * 2 ** 20)
    .register(OPTION_HELP, {
      policy: 'memory-budget',
      unit: 'size, 1MiB to 1GiB, for each member',
      quantity: 'size',
      effect:
        'The most that a proxy keeps outside of the reserved shadow. That is device state: a VM ' +
        'with more of it is refused. It counts against store.budget.',
    }),
  memoryBound: memoryBoundSchema.default(2).register(OPTION_HELP, {
    policy: 'memory-bound',
    unit: 'multiple of a member’s RAM, at least 1',
    effect:
      'The most that a member streams while it runs. A member that has streamed that much ends ' +
      'the live phase, once the others have sent their memory: so the live phase always ends. ' +
      'The proxy that reads the stream enforces it, whatever the coordinator does.',
  }),
  multiplexing: z
    .enum(MULTIPLEXINGS)
    .default('finish-together')
    .register(OPTION_HELP, {
      policy: 'multiplexing',
      unit: 'parallel, round-robin or finish-together',
      effect:
        'Whose streams flow at the same time, until every member has sent its memory once. The ' +
        'other VMs run on and their streams are not read; a page they rewrite meanwhile is sent ' +
        'once.',
      values: {
        parallel:
          'All members stream at once. A member that has sent its memory once streams on in ' +
          'round.dirtyShare of the slots.',
        'round-robin': 'round.slots members stream at a time, for one round.slot each, in turn.',
        'finish-together':
          'round.slots members stream at a time: those with the most still to send. The smallest ' +
          'comes last, when the others have sent again what they rewrote: so the least is left ' +
          'at the end.',
      },
    }),
  slots: slotsSchema.optional().register(OPTION_HELP, {
    policy: 'multiplexing',
    unit: 'members, at least 1',
    usualValue: ROUND_DEFAULTS.slots,
    effect: 'How many streams flow at once, with round-robin and finish-together.',
  }),
  slot: duration
    .pipe(slotMsSchema)
    .optional()
    .register(OPTION_HELP, {
      policy: 'multiplexing',
      unit: `duration, at least ${SLOT_MS_MIN}ms`,
      quantity: 'duration',
      usualValue: ROUND_DEFAULTS.slotMs,
      effect: 'How long a slot lasts. Shorter slots share more evenly, and cost more messages.',
    }),
  dirtyShare: dirtyShareSchema.optional().register(OPTION_HELP, {
    policy: 'multiplexing',
    unit: 'share of the slots, more than 0, at most 1',
    usualValue: ROUND_DEFAULTS.dirtyShare,
    effect:
      'With parallel: the share of the time for pages that were sent before, while other members ' +
      'still send theirs for the first time (MTD’s 50 dirty / 50 non-dirty).',
  }),
  endWhen: z
    .array(endCondition)
    .min(1, 'must list at least one')
    .prefault(['all-first-pass'])
    .register(OPTION_HELP, {
      policy: 'end-condition',
      unit: 'list of conditions; the first that holds ends the live phase of every member',
      effect:
        'Decides how much is left to send while the VMs are stopped: the later the live phase ' +
        'ends, the less is left.',
      values: {
        'all-first-pass':
          'Ends the live phase when every member has sent all its memory once. It makes the ' +
          'shortest checkpoint.',
        'any-first-pass':
          'Ends it when the first member has sent all its memory once. The others send the rest ' +
          'while they are stopped.',
        'predicted-downtime T':
          'Ends it when the predicted downtime of the cluster is at most T, a duration less than ' +
          'round.stopDeadline.',
        'no-progress':
          'Ends it when the predicted downtime no longer falls: the slowest member dirties ' +
          'memory as fast as it streams, so waiting gains nothing. It makes the shortest ' +
          'downtime that a cluster can have.',
      },
    }),
  maxLive: duration
    .pipe(durationMsSchema)
    .default(60_000)
    .register(OPTION_HELP, {
      policy: 'end-condition',
      unit: `duration, at least ${SLOT_MS_MIN}ms`,
      quantity: 'duration',
      effect: 'The longest that the live phase lasts, whatever the conditions of round.endWhen.',
    }),
});
