/**
 * The HTTP API, on a unix socket in the cluster's folder (0700), for local use.
 *
 *     GET    /v1/status
 *     GET    /v1/epochs
 *     GET    /v1/rounds                          names of the rounds there are reports of
 *     GET    /v1/rounds/:round                   one report; `last` is the newest
 *     POST   /v1/checkpoint                      ─┐ answer: lines of JSON, progress first,
 *     POST   /v1/restore {epoch?, mode, …}        │ then one {"kind": "done" | "failed", …}
 *     POST   /v1/clone {source, epoch?, mode, …} ─┘ an epoch of another cluster, into this one
 *     POST   /v1/hold {epoch?}                   its files stay while the answer, one line, is not closed
 *     GET    /v1/hold/:hold                      does it stand?
 *     POST   /v1/abort
 *     POST   /v1/epochs/:epoch/verify
 *     PUT    /v1/epochs/:epoch/pin               keep it, whatever the policy says …
 *     DELETE /v1/epochs/:epoch/pin               … no longer
 *     DELETE /v1/epochs/:epoch
 *     POST   /v1/shutdown
 *
 * An error is {"failure": {code, message, …}}: api-errors.ts.
 */
import { PassThrough } from 'node:stream';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import * as z from 'zod';
import { parseClusterConfig } from '../config/config.ts';
import { CONFIG_LIMIT_BYTES } from '../config/text.ts';
import { toFailure } from '../failure/failure.ts';
import { answerError, answerErrors, badRequest } from './api-errors.ts';
import type { Coordinator } from './coordinator.ts';

const BODY_LIMIT_BYTES = 64 * 1024;
/** A config as long as one may be, its quotes and ends of line escaped. */
const CLONE_LIMIT_BYTES = 2 * CONFIG_LIMIT_BYTES;

const restoreSchema = z.strictObject({
  epoch: z.number().int().positive().optional(),
  mode: z.enum(['auto', 'map', 'stream']).default('auto'),
  replace: z.boolean().default(false),
  verify: z.enum(['changed', 'all']).default('changed'),
  from: z.enum(['auto', 'disk']).default('auto'),
});
const holdSchema = z.strictObject({ epoch: z.number().int().positive().optional() });
const holdParameters = z.object({ hold: z.string().max(64) });
const cloneSchema = restoreSchema.omit({ replace: true }).extend({
  /** The other cluster's cluster.yaml: its text, its path, and the folder that holds both clusters. */
  source: z.strictObject({ text: z.string(), file: z.string(), home: z.string() }),
  disconnect: z.boolean().default(false),
});
const roundParameters = z.object({ round: z.string().max(64) });
const epochParameters = z.object({ epoch: z.coerce.number().int().positive() });

/** @param shutdown called when a client asks the daemon to end, after it was answered */
export function buildApi(
  coordinator: Coordinator,
  log: Logger,
  shutdown: () => void,
): FastifyInstance {
  const api = Fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    frameworkErrors: answerError,
  });
  answerErrors(api);
  api.get('/v1/status', () => coordinator.status());
  api.get('/v1/epochs', async () => ({ epochs: await coordinator.epochs() }));
  api.get('/v1/rounds', async () => ({ rounds: await coordinator.rounds() }));
  api.get('/v1/rounds/:round', (request) => {
    return coordinator.report(parse(roundParameters, request.params).round);
  });
  api.post('/v1/checkpoint', (_request, reply) =>
    streamed(reply, (tell) => coordinator.checkpoint(tell)),
  );
  api.post('/v1/restore', (request, reply) => {
    const { epoch, ...options } = parse(restoreSchema, request.body ?? {});
    return streamed(reply, (tell) => coordinator.restore(epoch, options, tell));
  });
  api.post('/v1/clone', { bodyLimit: CLONE_LIMIT_BYTES }, (request, reply) => {
    const { source, disconnect, epoch, ...options } = parse(cloneSchema, request.body ?? {});
    const config = parseClusterConfig(source.text, source.file, source.home);
    const wanted = { ...options, epoch, origin: { source: config, disconnect } };
    return streamed(reply, (tell) => coordinator.clone(wanted, tell));
  });
  api.post('/v1/hold', async (request, reply) => {
    const { epoch } = parse(holdSchema, request.body ?? {});
    const lines = new PassThrough();
    const hold = await coordinator.hold(epoch, () => lines.end());
    reply.raw.once('close', hold.release);
    if (request.raw.socket.destroyed) hold.release(); // it left while we looked
    lines.write(`${JSON.stringify({ kind: 'held', hold: hold.id, epoch: hold.epoch })}\n`);
    return reply.type('application/x-ndjson').send(lines);
  });
  api.get('/v1/hold/:hold', async (request) => {
    const { hold } = parse(holdParameters, request.params);
    coordinator.requireHold(hold);
    return { hold };
  });
  api.post('/v1/abort', async () => ({ aborted: coordinator.abort('the operator ended it') }));
  api.post('/v1/epochs/:epoch/verify', async (request) => {
    const { epoch } = parse(epochParameters, request.params);
    const places = await coordinator.verify(epoch);
    return { epoch, intact: true, places };
  });
  for (const [method, pinned] of [
    ['PUT', true],
    ['DELETE', false],
  ] as const) {
    const handler = async (request: FastifyRequest) => {
      const { epoch } = parse(epochParameters, request.params);
      await coordinator.pin(epoch, pinned);
      return { epoch, pinned };
    };
    api.route({ method, url: '/v1/epochs/:epoch/pin', handler });
  }
  api.delete('/v1/epochs/:epoch', async (request) => {
    const { epoch } = parse(epochParameters, request.params);
    await coordinator.removeEpoch(epoch);
    return { epoch, removed: true };
  });
  api.post('/v1/shutdown', async (_request, reply) => {
    reply.raw.once('finish', shutdown);
    return { ending: true };
  });
  return api;
}

/** Answers with lines of JSON as the work goes on; its end is the last line. */
function streamed(
  reply: FastifyReply,
  work: (tell: (progress: object) => void) => Promise<object>,
): FastifyReply {
  const lines = new PassThrough();
  const tell = (line: object) => {
    // A reader that went away or fell far behind must not make us keep its lines.
    if (!lines.destroyed && lines.writableLength < BODY_LIMIT_BYTES * 16) {
      lines.write(`${JSON.stringify(line)}\n`);
    }
  };
  work(tell).then(
    (report) => lines.end(`${JSON.stringify({ kind: 'done', report })}\n`),
    (error: unknown) => {
      lines.end(`${JSON.stringify({ kind: 'failed', failure: toFailure(error, {}) })}\n`);
    },
  );
  return reply.type('application/x-ndjson').send(lines);
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw badRequest(z.prettifyError(parsed.error));
}
