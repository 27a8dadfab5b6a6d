/**
 * The operator's API: every request and every answer. PURE.
 *
 *     GET    /v1/status
 *     GET    /v1/epochs
 *     GET    /v1/rounds                          names of the rounds there are reports of
 *     GET    /v1/rounds/:round                   one report; `last` is the newest
 *     POST   /v1/checkpoint                      ─┐ answered by lines of JSON (progress.ts):
 *     POST   /v1/restore {epoch?, mode, …}        │ progress, then `done` or `failed`
 *     POST   /v1/clone {source, epoch?, mode, …} ─┘ an epoch of another cluster, into this one
 *     POST   /v1/hold {epoch?}                   the epoch's files stay until the answer is closed
 *     GET    /v1/hold/:hold                      whether the hold has lasted until now
 *     POST   /v1/abort
 *     POST   /v1/reload {text, file}             changed budgets and policies, between rounds
 *     POST   /v1/members/:member/untrack         lets go of a VM whose writes are tracked
 *     POST   /v1/epochs/:epoch/verify
 *     PUT    /v1/epochs/:epoch/pin               keeps it, whatever the retention policy says
 *     DELETE /v1/epochs/:epoch/pin
 *     DELETE /v1/epochs/:epoch
 *     POST   /v1/shutdown
 *
 * A request that fails is answered by {"failure": {code, message, …}} and a status of 400 or more.
 *
 * One table serves three readers: the daemon's routes (coordinator/api.ts), the client
 * (client/daemon-client.ts) and openapi.json. A field may be added to an answer at any time:
 * readers ignore fields they do not know.
 */
import * as z from 'zod';
import { epochDetailSchema } from './epoch.ts';
import { refusalSchema } from './failure.ts';
import { checkpointLineSchema, heldLineSchema, restoreLineSchema } from './progress.ts';
import { reloadedSchema } from './reload.ts';
import { roundReportSchema } from './report.ts';
import { clockChoiceSchema, qemuChoiceSchema, restoreChoiceSchema } from './restore-mode.ts';
import { clusterStatusSchema } from './status.ts';

const epochSchema = z.number().int().positive();

const checkpointRequestSchema = z.strictObject({
  prove: z
    .boolean()
    .optional()
    .describe('Load the epoch into throw-away QEMUs before it is committed; default: round.prove'),
});
export type CheckpointRequest = Readonly<z.infer<typeof checkpointRequestSchema>>;

export const restoreRequestSchema = z.strictObject({
  epoch: epochSchema.optional().describe('The newest if absent'),
  mode: restoreChoiceSchema.default('auto').describe('How RAM gets into the VM'),
  replace: z.boolean().default(false).describe('Kill members that still run, instead of refusing'),
  verify: z
    .enum(['changed', 'all'])
    .default('changed')
    .describe('`all` reads every byte again before anything is started'),
  qemu: qemuChoiceSchema.default('installed').describe('Which QEMU is started'),
  from: z.enum(['auto', 'disk']).default('auto').describe('`disk` does not trust memory'),
  clock: clockChoiceSchema
    .default('keep')
    .describe('`catch-up` has guest agents set the wall clocks, when all VMs run'),
  store: z
    .string()
    .optional()
    .describe('Folder of a relay: the epoch is one of a VM that passed there'),
  member: z.string().optional().describe('With store: the member that VM is; default: of its name'),
  xml: z.string().optional().describe('With store: XML of the domain; default: what libvirt has'),
});
export type RestoreRequest = Readonly<z.infer<typeof restoreRequestSchema>>;
/** Options of a restore, but for the choice of the epoch. */
export type RestoreOptions = Omit<RestoreRequest, 'epoch' | 'store' | 'member' | 'xml'>;

const cloneRequestSchema = restoreRequestSchema
  .omit({ replace: true, store: true, member: true, xml: true })
  .extend({
    source: z.strictObject({
      text: z.string().describe('The other cluster’s cluster.yaml'),
      file: z.string().describe('The path of that file'),
      home: z.string().describe('The folder that holds both clusters'),
    }),
    disconnect: z
      .boolean()
      .default(false)
      .describe('Unplug network cards that cannot have a network of their own'),
  });

const holdRequestSchema = z.strictObject({
  epoch: epochSchema.optional().describe('The newest if absent'),
});
const epochParams = z.object({ epoch: z.coerce.number().int().positive() });
const roundParams = z.object({ round: z.string().max(64) });
const holdParams = z.object({ hold: z.string().max(64) });

const pinnedSchema = z.object({ epoch: epochSchema, pinned: z.boolean() });
/** The type of an answer that is lines of JSON. */
export const LINES = 'application/x-ndjson';

export const OPERATIONS = {
  status: {
    method: 'GET',
    url: '/v1/status',
    schema: {
      summary: 'Members, epochs and the job under way',
      response: answered(clusterStatusSchema),
    },
  },
  epochs: {
    method: 'GET',
    url: '/v1/epochs',
    schema: {
      summary: 'Epochs, with age and memory',
      response: answered(z.object({ epochs: z.array(epochDetailSchema).readonly() })),
    },
  },
  rounds: {
    method: 'GET',
    url: '/v1/rounds',
    schema: {
      summary: 'Names of the rounds there are reports of, oldest first',
      response: answered(z.object({ rounds: z.array(z.string()).readonly() })),
    },
  },
  report: {
    method: 'GET',
    url: '/v1/rounds/:round',
    schema: {
      summary: 'The report of a round; `last` names the newest',
      params: roundParams,
      response: answered(roundReportSchema),
    },
  },
  checkpoint: {
    method: 'POST',
    url: '/v1/checkpoint',
    schema: {
      summary: 'Takes a checkpoint',
      body: checkpointRequestSchema,
      response: answered(lines(checkpointLineSchema)),
    },
  },
  restore: {
    method: 'POST',
    url: '/v1/restore',
    schema: {
      summary: 'Brings the cluster back as it was in an epoch',
      body: restoreRequestSchema,
      response: answered(lines(restoreLineSchema)),
    },
  },
  clone: {
    method: 'POST',
    url: '/v1/clone',
    schema: {
      summary: 'Brings up this cluster from an epoch of another one, which keeps running',
      body: cloneRequestSchema,
      response: answered(lines(restoreLineSchema)),
    },
  },
  hold: {
    method: 'POST',
    url: '/v1/hold',
    schema: {
      summary: 'Keeps the files of an epoch until the answer is closed',
      body: holdRequestSchema,
      response: answered(lines(heldLineSchema)),
    },
  },
  requireHold: {
    method: 'GET',
    url: '/v1/hold/:hold',
    schema: {
      summary: 'Succeeds if the hold has lasted until now',
      params: holdParams,
      response: answered(z.object({ hold: z.string() })),
    },
  },
  abort: {
    method: 'POST',
    url: '/v1/abort',
    schema: {
      summary: 'Ends a round that is under way, or waits to begin',
      response: answered(z.object({ aborted: z.boolean() })),
    },
  },
  reload: {
    method: 'POST',
    url: '/v1/reload',
    schema: {
      summary: 'Takes up the changed options of a cluster.yaml when no round is under way',
      body: z.strictObject({
        text: z.string().describe('The cluster.yaml as it is now'),
        file: z.string().describe('The path of that file'),
      }),
      response: answered(reloadedSchema),
    },
  },
  untrack: {
    method: 'POST',
    url: '/v1/members/:member/untrack',
    schema: {
      summary: 'Ends the tracking of a VM until the next round: QEMU may snapshot it meanwhile',
      params: z.object({ member: z.string().min(1).max(64) }),
      response: answered(
        z.object({
          member: z.string(),
          wasTracked: z.boolean().describe('false: there was nothing to end'),
        }),
      ),
    },
  },
  verify: {
    method: 'POST',
    url: '/v1/epochs/:epoch/verify',
    schema: {
      summary: 'Reads every byte of an epoch again, in memory and on disk',
      params: epochParams,
      response: answered(
        z.object({
          epoch: epochSchema,
          intact: z.literal(true),
          places: z.array(z.enum(['memory', 'disk'])).readonly(),
        }),
      ),
    },
  },
  pin: {
    method: 'PUT',
    url: '/v1/epochs/:epoch/pin',
    schema: {
      summary: 'Keeps an epoch, whatever the retention policy says',
      params: epochParams,
      response: answered(pinnedSchema),
    },
  },
  unpin: {
    method: 'DELETE',
    url: '/v1/epochs/:epoch/pin',
    schema: {
      summary: 'Leaves an epoch to the retention policy again',
      params: epochParams,
      response: answered(pinnedSchema),
    },
  },
  removeEpoch: {
    method: 'DELETE',
    url: '/v1/epochs/:epoch',
    schema: {
      summary: 'Removes an epoch that is not pinned',
      params: epochParams,
      response: answered(z.object({ epoch: epochSchema, removed: z.literal(true) })),
    },
  },
  shutdown: {
    method: 'POST',
    url: '/v1/shutdown',
    schema: {
      summary: 'Ends the daemon; VMs are left as they are',
      response: answered(z.object({ ending: z.literal(true) })),
    },
  },
} as const satisfies Record<string, Operation>;

/** A route: what a request is made of, and every answer it can have. */
export interface Operation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly url: string;
  readonly schema: {
    readonly summary: string;
    readonly params?: z.ZodObject;
    readonly body?: z.ZodObject;
    readonly response: Answers<z.ZodType | Lines<z.ZodType>>;
  };
}

/** Schemas of the answers to a request, by status. */
export interface Answers<S> {
  readonly 200: S;
  readonly '4xx': typeof refusalSchema;
  readonly '5xx': typeof refusalSchema;
}

/** An answer of many lines, each of the same schema. */
export interface Lines<S extends z.ZodType> {
  readonly description: string;
  readonly content: { readonly [LINES]: { readonly schema: S } };
}

type Operations = typeof OPERATIONS;
type Success<Name extends keyof Operations> = Operations[Name]['schema']['response'][200];

/** Operations that are answered by one value, and those that are answered by lines. */
export type PlainName = {
  [Name in keyof Operations]: Success<Name> extends z.ZodType ? Name : never;
}[keyof Operations];
export type LinesName = Exclude<keyof Operations, PlainName>;

/** A request of a client: parts of the path and body, as far as an operation has them. */
export type Request<Name extends keyof Operations> = PartOf<Name, 'params'> & PartOf<Name, 'body'>;
type PartOf<Name extends keyof Operations, Part extends 'params' | 'body'> =
  Operations[Name]['schema'] extends Readonly<Record<Part, infer S extends z.ZodType>>
    ? Readonly<Record<Part, Part extends 'params' ? z.output<S> : z.input<S>>>
    : unknown;

export type Answer<Name extends PlainName> =
  Success<Name> extends z.ZodType<infer Value> ? Readonly<Value> : never;
export type Line<Name extends LinesName> =
  Success<Name> extends Lines<z.ZodType<infer Value>> ? Value : never;
/** A line before the last. */
export type Progress<Name extends LinesName> = Exclude<Line<Name>, { kind: 'done' | 'failed' }>;
/** The report that the last line carries. */
export type ReportOf<Name extends LinesName> =
  Line<Name> extends infer L ? (L extends { report: infer R } ? R : never) : never;

function answered<S extends z.ZodType | Lines<z.ZodType>>(schema: S): Answers<S> {
  return { 200: schema, '4xx': refusalSchema, '5xx': refusalSchema };
}

function lines<S extends z.ZodType>(schema: S): Lines<S> {
  return { description: 'Lines of JSON', content: { [LINES]: { schema } } };
}
