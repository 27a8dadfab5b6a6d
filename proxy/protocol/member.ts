/**
 * The contract of an agent and a member's proxy, over a channel (channel.ts).
 *
 *     agent ── open, then requests ──▶ proxy        each is answered
 *     agent ── command ──────────────▶ proxy        drives a round, not answered
 *     agent ◀── notice, alive ──────── proxy        as the round moves on; a sign of life
 *
 * A proxy answers `open` when it is ready: it has its location, and its monitor can be reached.
 */
import * as z from 'zod';
import { machineSchema } from '../../shadow/index.ts';
import { libvirtDomainSchema } from './cluster.ts';
import { failureSchema } from './failure.ts';
import { processSchema } from './known-process.ts';
import { restoreModeSchema } from './restore-mode.ts';
import {
  type FlowSpan,
  type MemberSample,
  memberSampleSchema,
  type RoundFacts,
  roundFactsSchema,
} from './round-facts.ts';
import { type CaptureMode, roundConfigSchema, roundSettingsSchema } from './round-settings.ts';

export type { RestoreMode } from './restore-mode.ts';
export type { CaptureMode, FlowSpan, MemberSample, RoundFacts };

const text = z.string();
const texts = z.array(text).readonly();
/** A figure that was measured: nothing is refused for being infinite, or not a number. */
const figure = z.custom<number>((value) => typeof value === 'number', 'must be a number');

/** Paths of a member, all absolute. */
export const memberLocationSchema = z.object({
  member: text,
  /** The QMP socket of its VM. With libvirt, the proxy makes that socket. */
  qmp: text,
  /** The member's own folder, for sockets and the journal, mode 0700. */
  directory: text,
  libvirt: libvirtDomainSchema.exactOptional(),
});
export type MemberLocation = Readonly<z.infer<typeof memberLocationSchema>>;

/** The host's memory that a member's shadow may take, bytes. */
const stagingShareSchema = z.object({
  /** The shadow to store differences from, by folder and digest of its shadow.json. */
  base: z.object({ directory: text, sha256: text }).optional(),
  /** Shadow of the newest epoch, and the round of that cut: the base of a link. */
  parent: z.object({ directory: text, sha256: text, cut: text }).optional(),
  /** Admitted for it: all of its RAM, or what is expected to differ. */
  admittedBytes: figure,
  /** The most that may be added while the round runs. */
  moreBytes: figure,
  /** Memory that must stay free on the host. */
  headroomBytes: figure,
});
export type StagingShare = Readonly<z.infer<typeof stagingShareSchema>>;

/** A VM as its QEMU describes it. */
const examinedVmSchema = z.object({
  machine: machineSchema,
  disks: z.array(z.object({ device: text, files: texts, isWritable: z.boolean() })).readonly(),
  /** Devices and backends that write its memory past QEMU, in words. */
  writers: texts,
});
export type ExaminedVm = Readonly<z.infer<typeof examinedVmSchema>>;

const prepareSchema = roundSettingsSchema
  .extend(roundConfigSchema.pick({ hugePages: true, compareEmulated: true }).shape)
  .extend({
    type: z.literal('prepare'),
    round: text,
    /** The folder the shadow is staged in; it does not exist yet. */
    shadowDirectory: text,
    /** Images of earlier epochs that may be written again. */
    spareDirectory: text,
    staging: stagingShareSchema,
    /**
     * The host's memory that must stay free when huge pages are made, with what another round
     * needs, bytes.
     */
    keepFreeBytes: figure,
    /** A part of the names of layers over its disks (disk-layer.ts). */
    diskOwner: text,
    /** The VM's command line as it was started: recorded with the shadow, used by restore. */
    commandLine: texts,
    workingDirectory: text,
    /** The same, of a VM that libvirt has started. */
    domainXml: text.optional(),
    /** The VM when the round was admitted, an instant before. */
    examined: examinedVmSchema,
    /** Process of its QEMU, where it is known. */
    vm: z.union([processSchema, z.undefined()]),
  });
export type PrepareCommand = Readonly<z.infer<typeof prepareSchema>>;

const roundCommandSchema = z.union([
  /** A sign of the coordinator's life; nothing else. */
  z.object({ type: z.literal('alive') }),
  z.object({
    type: z.enum([
      'open',
      'start',
      'stop',
      'barrier',
      'commit',
      'abort',
      /** The member's slot opens or closes: its stream flows, or is held while the VM runs on. */
      'flow',
      'hold',
      /** The end is near: slots and pacing are over. */
      'close-in',
    ]),
    round: text,
  }),
  prepareSchema,
]);
export type RoundCommand = Readonly<z.infer<typeof roundCommandSchema>>;

/** Memory of a libvirt domain that is mapped from an image (libvirt/memory-link.ts). */
const linkedMemorySchema = z.object({
  /** The folder where libvirt makes a folder for each running domain. */
  folder: text,
  /** The domain's name, as its folder there has it: ID-NAME. */
  name: text,
  /** The name of the file. */
  alias: text,
  uuid: text,
  /** The image to be mapped, and how much of it. */
  image: text,
  bytes: figure,
});
export type LinkedMemory = Readonly<z.infer<typeof linkedMemorySchema>>;

/** The way libvirt is to start a domain again. */
const domainPlanSchema = z.object({
  xml: text,
  /** Main RAM, if it can be mapped. */
  memory: z.union([linkedMemorySchema, z.undefined()]),
  /** `map` was asked for, and no other mode will do. */
  insists: z.boolean(),
});
export type DomainPlan = Readonly<z.infer<typeof domainPlanSchema>>;

/** The longest that `load-domain` may take, milliseconds. */
export const DOMAIN_LOAD_LIMIT_MS = 600_000;

const probeResultSchema = z.object({
  /** QEMU's run state, or `gone`. */
  status: text,
  running: z.boolean(),
  qemuVersion: text,
});
export type ProbeResult = Readonly<z.infer<typeof probeResultSchema>>;

const examineResultSchema = examinedVmSchema.extend({
  /** Bytes that a shadow of this VM must reserve. */
  shadowBytes: figure,
  /** Bytes of each RAM block; their sum is shadowBytes. */
  blockBytes: z.array(figure).readonly(),
  qemuVersion: text,
});
export type ExamineResult = Readonly<z.infer<typeof examineResultSchema>>;

const loadResultSchema = z.object({
  /** Sent into QEMU. */
  bytes: figure,
});
export type LoadResult = Readonly<z.infer<typeof loadResultSchema>>;

const domainLoadedSchema = z.object({
  /** Given to libvirt. */
  bytes: figure,
  mode: z.enum(['map', 'libvirt']),
  /** The reason why it is not `map`, if it could have been. */
  reason: text.exactOptional(),
});
export type DomainLoaded = Readonly<z.infer<typeof domainLoadedSchema>>;

const resumeResultSchema = z.object({
  /** QEMU's own time stamp of RESUME, microseconds since 1970. */
  resumedAtUs: figure,
});
export type ResumeResult = Readonly<z.infer<typeof resumeResultSchema>>;

const clockResultSchema = z.object({
  /** The guest's clock less the host's now, milliseconds. */
  offMs: figure,
  /** The most by which that may be wrong, milliseconds. */
  withinMs: figure,
  /** Milliseconds it was behind before. */
  behindMs: figure,
});
export type ClockResult = Readonly<z.infer<typeof clockResultSchema>>;

const mergeResultSchema = z.object({
  /** Every file of every disk the VM has. */
  files: texts,
});

/** Requests of a proxy, outside of a round. */
const MEMBER_REQUESTS = {
  /** Says whether there is a QEMU, and its run state. */
  probe: { takes: z.object({ type: z.literal('probe') }), gives: probeResultSchema },
  /** Describes the machine, and checks readiness for a round. Changes nothing. */
  examine: {
    takes: z.object({ type: z.literal('examine'), workingDirectory: text }),
    gives: examineResultSchema,
  },
  /** Feeds a QEMU that was started with `-S -incoming unix:…` (restore/load.ts). */
  load: {
    takes: z.object({ type: z.literal('load'), shadowDirectory: text, mode: restoreModeSchema }),
    gives: loadResultSchema,
  },
  /** Has libvirt start the VM. */
  'load-domain': {
    takes: z.object({
      type: z.literal('load-domain'),
      shadowDirectory: text,
      plan: domainPlanSchema,
    }),
    gives: domainLoadedSchema,
  },
  /** Resumes the VM that was loaded. */
  resume: { takes: z.object({ type: z.literal('resume') }), gives: resumeResultSchema },
  /** Has the guest's agent set its clock to the host's. */
  'catch-up-clock': {
    takes: z.object({ type: z.literal('catch-up-clock'), workingDirectory: text }),
    gives: clockResultSchema,
  },
  /** Begins to merge layers of its disks, but for those that are needed as they are. */
  'merge-layers': {
    takes: z.object({
      type: z.literal('merge-layers'),
      workingDirectory: text,
      owner: text,
      needed: texts,
    }),
    gives: mergeResultSchema,
  },
  /** Ends the tracking of its VM, so that QEMU may watch that memory itself. */
  untrack: {
    takes: z.object({ type: z.literal('untrack'), vm: processSchema }),
    gives: z.object({ wasTracked: z.boolean() }),
  },
  /** Undoes what a dead round left: cancels its migration, makes the VM run. */
  repair: {
    takes: z.object({ type: z.literal('repair') }),
    gives: z.object({ repaired: z.boolean() }),
  },
} as const;

type MemberRequests = typeof MEMBER_REQUESTS;
export type MemberRequest = {
  [N in keyof MemberRequests]: Readonly<z.infer<MemberRequests[N]['takes']>>;
}[keyof MemberRequests];
export type MemberResults = {
  [N in keyof MemberRequests]: z.infer<MemberRequests[N]['gives']>;
};

const milestoneSchema = z.enum([
  'admitted',
  'live',
  'stopped',
  'drained',
  'resumed',
  'sealed',
  'failed',
  'aborted',
]);
export type SessionMilestone = z.infer<typeof milestoneSchema>;

/** A sample as the proxy has taken it: a figure that is not known yet is there, as undefined. */
const sampleSchema = z.custom<MemberSample>((value) => memberSampleSchema.safeParse(value).success);

const memberNoticeSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('report'),
    round: text,
    report: milestoneSchema,
    facts: roundFactsSchema,
    failure: failureSchema.exactOptional(),
  }),
  z.object({ type: z.literal('sample'), round: text, sample: sampleSchema }),
]);
export type MemberNotice = Readonly<z.infer<typeof memberNoticeSchema>>;

/**
 * Parses a notice with every part that a report at the barrier has. zod compiles a schema when it
 * first parses with it, on the daemon's only thread: that must not be while a VM is stopped.
 */
export function warmNoticeSchema(): void {
  const flow = [{ state: 'live', fromMs: 0, toMs: 0 }] as const;
  const sample = {};
  const failure = { code: 'E_INTERNAL', message: '' };
  for (const facts of [{ flow, sample }, {}]) {
    memberNoticeSchema.safeParse({ type: 'report', round: '', report: 'live', facts, failure });
  }
  memberNoticeSchema.safeParse({ type: 'sample', round: '', sample });
}

/** Parses a `resume` as `warmNoticeSchema` does a notice: it comes while the VM is stopped. */
export function warmResumeSchema(): void {
  MEMBER_REQUESTS.resume.takes.safeParse({ type: 'resume' });
}

/** Calls that a proxy takes. */
export const PROXY_CALLS = {
  /** Tells it its location. It answers when it is ready. */
  open: { takes: memberLocationSchema, gives: z.undefined() },
  ...MEMBER_REQUESTS,
  command: { takes: roundCommandSchema },
} as const;

/** Calls that an agent takes from a proxy. */
export const AGENT_CALLS = {
  notice: { takes: memberNoticeSchema },
  /** The answer to a sign of life. */
  alive: { takes: z.undefined() },
} as const;
