/**
 * Settings of a round: one schema for every boundary they cross. PURE.
 *
 *     cluster.yaml `round`   text with units      config/round-options.ts: spelling, default, help
 *          ▼ resolve.ts
 *     RoundConfig            ms, bytes            ClusterConfig.round
 *          ▼ coordinator
 *     RoundSettings          + memoryBound …      Agent.prepare
 *          ▼ agent
 *     PrepareCommand         + paths, VM …        member.ts; the capture modules pick from it
 */
import * as z from 'zod';
import type { EndCondition, Multiplexing } from '../../policies/index.ts';

/** Timers of Node hold 2³¹ ms; a day is longer than any wait that makes sense. */
const DURATION_MS_MAX = 86_400_000;
const IN_FLIGHT_BYTES_MIN = 2 ** 20;
const IN_FLIGHT_BYTES_MAX = 2 ** 30;

/** The shortest slot of a stream, milliseconds. */
export const SLOT_MS_MIN = 50;

/**
 * Ways to get a member's state into its shadow, in the order `auto` tries them: least downtime
 * first.
 *
 *     tracked      reads what was written since the last epoch, and stops it for the rest of that
 *     background   stops the VM for an instant, copies its memory of that instant while it runs
 *     precopy      streams memory while the VM runs, stops it for what is left
 *     stop-copy    stops the VM and copies everything: slow, and always right
 */
export const CAPTURES = ['tracked', 'background', 'precopy', 'stop-copy'] as const;

/**
 * Ways to make background snapshots of several members one cut (member/capture/background.ts).
 *
 *     frames-held   a VM that was cut runs on; its outgoing frames are held until all have been cut
 *     all-stopped   a VM that was cut stays stopped until all have been cut
 *     auto          frames-held where that is possible, else all-stopped
 */
const CUTS = ['auto', 'frames-held', 'all-stopped'] as const;

/**
 * Ways to treat disks that guests can write to.
 *
 *     leave      they are not part of epochs: checkpoints warn, background capture refuses
 *     snapshot   they are frozen at the cut, while the VM stands (member/qemu/disks.ts)
 */
const DISK_MODES = ['leave', 'snapshot'] as const;

/**
 * Memory to join into huge pages again after a background capture split it
 * (member/capture/huge-pages.ts).
 *
 *     auto    what the guest uses; the rest as long as the host has plenty of memory
 *     used    what the guest uses
 *     all     also what it does not use, which then takes memory
 *     leave   none: the kernel joins it some day
 */
export const HUGE_PAGE_MODES = ['auto', 'used', 'all', 'leave'] as const;

/**
 * Epochs that are loaded into throw-away QEMUs before they are committed (agent/restores/proof.ts).
 *
 *     never    none
 *     first    the first of each daemon's life
 *     always   all
 */
const PROVE_MODES = ['never', 'first', 'always'] as const;

export const captureSchema = z.enum(CAPTURES);
/** The way the background snapshots of a round became one cut. */
export const cutMadeSchema = z.enum(['all-stopped', 'frames-held']);
export type CaptureMode = z.infer<typeof captureSchema>;
export type HugePageMode = (typeof HUGE_PAGE_MODES)[number];

/** A duration that a round may wait for, milliseconds. */
export const durationMsSchema = z
  .number('must be a day at most')
  .positive('must be more than zero')
  .max(DURATION_MS_MAX, 'must be a day at most');

export const slotMsSchema = z.number().min(SLOT_MS_MIN, `must be at least ${SLOT_MS_MIN}ms`);
export const slotsSchema = z.number().int().min(1, 'must be at least 1, or nothing would stream');
export const dirtyShareSchema = z.number().gt(0, 'must be more than 0').max(1, 'must be at most 1');
export const memoryBoundSchema = z.number().min(1, 'must be at least 1: all memory once');

/** A condition that ends the live phase (policies/end-condition.ts). */
const endConditionSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('all-first-pass') }),
  z.object({ kind: z.literal('any-first-pass') }),
  z.object({ kind: z.literal('predicted-downtime'), ms: z.number() }),
  z.object({ kind: z.literal('no-progress') }),
  z.object({ kind: z.literal('memory-bound'), factor: memoryBoundSchema }),
  z.object({ kind: z.literal('elapsed'), ms: durationMsSchema }),
]) satisfies z.ZodType<EndCondition>;

/** The order in which members' streams flow (policies/multiplexing.ts). */
const multiplexingSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('parallel'), slotMs: slotMsSchema, dirtyShare: dirtyShareSchema }),
  z.object({ kind: z.literal('round-robin'), slotMs: slotMsSchema, atOnce: slotsSchema }),
  z.object({ kind: z.literal('finish-together'), slotMs: slotMsSchema, atOnce: slotsSchema }),
]) satisfies z.ZodType<Multiplexing>;

/** A round as it is configured. */
export const roundConfigSchema = z.object({
  /** In the order they are tried; the first that can be trusted is taken. */
  capture: z.array(captureSchema).min(1, 'must list at least one').readonly(),
  cut: z.enum(CUTS),
  disks: z.enum(DISK_MODES),
  hugePages: z.enum(HUGE_PAGE_MODES),
  /** Without KVM, precopy is compared with the VM's memory: QEMU can miss a dirtied page. */
  compareEmulated: z.boolean(),
  prove: z.enum(PROVE_MODES),
  /** The longest a VM may stay stopped in a round that fails. */
  stopDeadlineMs: durationMsSchema,
  /** The first condition that holds ends the live phase. */
  endWhen: z.array(endConditionSchema).readonly(),
  multiplexing: multiplexingSchema,
  /** The most of a stream that a proxy keeps outside of the reserved shadow. */
  inFlightBytes: z
    .number()
    .min(IN_FLIGHT_BYTES_MIN, 'must be at least 1MiB')
    .max(IN_FLIGHT_BYTES_MAX, 'must be at most 1GiB'),
});
export type RoundConfig = Readonly<z.infer<typeof roundConfigSchema>>;

/** The part of it that a coordinator gives an agent for each member. */
export const roundSettingsSchema = roundConfigSchema
  .pick({ capture: true, cut: true, disks: true, inFlightBytes: true, stopDeadlineMs: true })
  .extend({
    /** A member streams at most this many times its RAM while its VM runs. */
    memoryBound: memoryBoundSchema,
    /** A proxy that hears nothing for this long takes its coordinator for lost. */
    silenceMs: z.number().positive(),
  });
export type RoundSettings = Readonly<z.infer<typeof roundSettingsSchema>>;
