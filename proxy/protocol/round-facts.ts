/**
 * Facts of one member's round: what its proxy has measured. PURE.
 *
 * A fact is absent until the step of the round that it belongs to. Reports (report.ts) are made of
 * facts.
 */
import * as z from 'zod';
import type { LiveSample } from '../../policies/index.ts';
import type { SnapshottedDisk } from './disk-layer.ts';
import { captureSchema, cutMadeSchema } from './round-settings.ts';

const number = z.number().optional();
const text = z.string().optional();

/** A stretch of the live phase; milliseconds since 1970. */
export const flowSpanSchema = z.object({
  state: z.enum(['live', 'held']),
  fromMs: z.number(),
  toMs: z.number(),
});
export type FlowSpan = Readonly<z.infer<typeof flowSpanSchema>>;

/** Figures of a stream and of QEMU up to now: policies decide by them. */
export const memberSampleSchema = z.object({
  atMs: z.number().describe('When it was taken, milliseconds of any monotonic clock'),
  bytes: z.number().describe('Bytes streamed so far'),
  flowedMs: z.number().describe('Milliseconds of the live phase in which the stream was read'),
  seenPages: z.number().describe('Pages sent at least once'),
  totalPages: z.number().describe('Pages there are; 0: not known yet'),
  normalPages: z.number().describe('Pages sent with content; one sent twice counts twice'),
  zeroPages: z.number().describe('Pages sent without content; one sent twice counts twice'),
  passes: z.number().describe('QEMU’s passes over dirty memory'),
  passAtMs: z.number().describe('When the present pass began, by the clock of atMs'),
  waits: z.boolean().describe('There is no live phase: it is ready to be stopped (stop-copy)'),
  keptBack: z.boolean().describe('The last of the first pass is held until the live phase ends'),
  remainingBytes: number.describe('Bytes dirty and unsent; absent until QEMU has said'),
  passBytes: number.describe('Bytes the present pass found dirty; absent in the first pass'),
  dirtyBytesPerSecond: number.describe('Bytes the guest dirties a second, as QEMU measures'),
});
export type MemberSample = LiveSample;

const layerSchema = z.object({
  path: z.string(),
  format: z.string().describe('QEMU’s name for the content, such as raw or qcow2'),
});

const snapshottedDiskSchema = z.object({
  device: z.string().describe('QEMU’s name for the disk'),
  layers: z.array(layerSchema).readonly().describe('Files as of the cut, the newest first'),
  layer: z.string().describe('The file that the guest writes to since'),
}) satisfies z.ZodType<SnapshottedDisk>;

export const roundFactsSchema = z.object({
  reservedBytes: number.describe('Memory reserved for the shadow'),
  qemuVersion: text,
  note: text.describe('What an operator should know of a restore of this member'),
  capture: captureSchema.optional().describe('How the member was captured'),
  captureReason: text.describe('Why it was not the capture that is tried first'),
  notTracked: text.describe('Why later epochs of this member cannot be tracked'),
  writtenPages: number.describe(
    'Pages that a tracked capture has read; one read twice counts twice',
  ),
  residuePages: number.describe('Part of them that was read while the VM stood'),
  copyMs: number.describe('How long it stood for them, milliseconds'),
  cut: cutMadeSchema.optional().describe('How background snapshots became one cut'),
  framesNotHeld: text.describe('Why outgoing frames could not be held'),
  releasedAtUs: number.describe('When held frames were sent, microseconds since 1970'),
  waitedShare: number.describe('Share of the saving in which a vCPU waited for a page, 0 to 1'),
  writableDisks: z
    .array(z.string())
    .readonly()
    .optional()
    .describe('Disks that the guest can write to'),
  disks: z
    .array(snapshottedDiskSchema)
    .readonly()
    .optional()
    .describe('Files of the writable disks, if the disks are part of the epoch'),
  stoppedAtUs: number.describe('QEMU’s time stamp of STOP, microseconds since 1970'),
  resumedAtUs: number.describe('QEMU’s time stamp of RESUME, microseconds since 1970'),
  liveMs: number.describe('From the start to the stop, milliseconds'),
  drainMs: number.describe('From the stop to the last byte, milliseconds'),
  sealMs: number.describe('Sealing of the shadow, milliseconds'),
  heldMs: number.describe('Part of the live phase in which the stream was held, milliseconds'),
  flow: z
    .array(flowSpanSchema)
    .readonly()
    .optional()
    .describe('When in the live phase the stream flowed, and when it was held'),
  passes: number.describe('QEMU’s passes over dirty memory'),
  repeatedPages: number.describe('Pages sent again after they had been sent'),
  missedPages: number.describe(
    'Dirtied pages that QEMU had missed (without KVM); they were taken from its memory',
  ),
  compareMs: number.describe('How long the VM was stopped to find missed pages, milliseconds'),
  liveBytes: number.describe('Bytes received while the VM ran'),
  drainBytes: number.describe('Bytes received after the stop'),
  shadow: text.describe('SHA-256 of shadow.json'),
  storedBytes: number.describe('Memory that the shadow takes'),
  stored: z
    .enum(['full', 'delta'])
    .optional()
    .describe('All of its memory, or what differs from an earlier shadow'),
  sample: memberSampleSchema.optional(),
});
export type RoundFacts = Readonly<z.infer<typeof roundFactsSchema>>;
