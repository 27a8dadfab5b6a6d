/**
 * The HTTP API, on a unix socket in the cluster's folder (0700), for local use.
 *
 *     GET    /v1/status
 *     GET    /v1/epochs
 *     GET    /v1/rounds                          names of the rounds there are reports of
 *     GET    /v1/rounds/:round                   one report; `last` is the newest
 *     POST   /v1/checkpoint                      ─┐ answer: lines of JSON, progress first,
 *     POST   /v1/restore {epoch?, mode, …}       ─┘ then one {"kind": "done" | "failed", …}
 *     POST   /v1/abort
 *     POST   /v1/epochs/:epoch/verify
 *     DELETE /v1/epochs/:epoch
 *     POST   /v1/shutdown
 *
 * An error is {"failure": {code, message, …}} with status 400 (bad request), 404 or 409.
 */
import { PassThrough } from 'node:stream';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyReply } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { toFailure, UmbraError } from '../failure.ts';
import type { Coordinator } from './coordinator.ts';

const BODY_LIMIT_BYTES = 64 * 1024;
const NOT_FOUND: ReadonlySet<string> = new Set([
  'E_EPOCH_UNKNOWN',
  'E_MEMBER_UNKNOWN',
  'E_ROUND_UNKNOWN',
]);

const restoreSchema = z.strictObject({
  epoch: z.number().int().positive().optional(),
  mode: z.enum(['auto', 'map', 'stream']).default('auto'),
  replace: z.boolean().default(false),
  verify: z.enum(['changed', 'all']).default('changed'),
  from: z.enum(['auto', 'disk']).default('auto'),
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
    disableRequestLogging: true,
  });
  api.setErrorHandler((error, _request, reply) => {
    const failure = toFailure(error, {});
    return reply.status(statusOf(failure.code, error)).send({ failure });
  });
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
  api.post('/v1/abort', async () => ({ aborted: coordinator.abort('the operator ended it') }));
  api.post('/v1/epochs/:epoch/verify', async (request) => {
    const { epoch } = parse(epochParameters, request.params);
    const places = await coordinator.verify(epoch);
    return { epoch, intact: true, places };
  });
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
  const message = `bad request: ${z.prettifyError(parsed.error)}`;
  throw new UmbraError({ code: 'E_BAD_REQUEST', message });
}

function statusOf(code: string, error: unknown): number {
  if (NOT_FOUND.has(code)) return 404;
  if (code === 'E_BAD_REQUEST') return 400;
  if (error instanceof UmbraError) return 409;
  const { statusCode } = error as { statusCode?: number };
  return statusCode ?? (code === 'E_INTERNAL' ? 500 : 409);
}
