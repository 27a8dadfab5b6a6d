/**
 * The operator's API on HTTP, for local use: a unix socket in the cluster's folder (0700).
 *
 * protocol/operator.ts says what there is to ask for, and what the answers are. A request is
 * checked by its schema. An answer is checked by the compiler here, and by its schema where it is
 * read.
 */
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  LogController,
} from 'fastify';
import { validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { type ConfigSource, parseClusterConfig } from '../config/config.ts';
import { CONFIG_LIMIT_BYTES } from '../config/text.ts';
import { toFailure, UmbraError } from '../failure/failure.ts';
import { packageFolder } from '../host/program.ts';
import {
  LINES,
  type LinesName,
  OPERATIONS,
  type Operation,
  type Progress,
  type ReportOf,
} from '../protocol/operator.ts';
import type { Reloaded } from '../protocol/reload.ts';
import { answerError, answerErrors } from './api-errors.ts';
import type { Coordinator } from './coordinator.ts';

const BODY_LIMIT_BYTES = 64 * 1024;
/** A config of the greatest length, its quotes and ends of line escaped. */
const CONFIG_BODY_BYTES = 2 * CONFIG_LIMIT_BYTES;
/** Progress is dropped while a client has this much of it unread. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

/** Requests that are for the daemon as a process. */
export interface DaemonRequests {
  /** Called when a client has asked the daemon to end, after the answer was sent. */
  readonly shutdown: () => void;
  /** Takes up a cluster.yaml. @throws UmbraError E_CONFIG, E_RELOAD_FIXED: nothing has changed */
  readonly reload: (source: Pick<ConfigSource, 'text' | 'file'>) => Promise<Reloaded>;
}

/** Builds the server; it does not listen yet. */
export function buildApi(
  coordinator: Coordinator,
  log: Logger,
  { shutdown, reload }: DaemonRequests,
): FastifyInstance {
  const server: FastifyInstance = Fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    frameworkErrors: answerError,
  });
  answerErrors(server);
  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  server.addHook('preValidation', async (request) => {
    request.body ??= {};
  });
  const api = server.withTypeProvider<ZodTypeProvider>();
  const { status, epochs, rounds, report, checkpoint, restore, clone } = OPERATIONS;
  const { hold, requireHold, abort, verify, pin, unpin, removeEpoch } = OPERATIONS;

  api.route({ ...status, handler: () => coordinator.status() });
  api.route({ ...epochs, handler: async () => ({ epochs: await coordinator.epochs() }) });
  api.route({ ...rounds, handler: async () => ({ rounds: await coordinator.rounds() }) });
  api.route({ ...report, handler: ({ params }) => coordinator.report(params.round) });
  api.route({
    ...ofLines(checkpoint),
    handler: ({ body }, reply) => {
      return streamed<'checkpoint'>(reply, (tell) => coordinator.checkpoint(body, tell));
    },
  });
  api.route({
    ...ofLines(restore),
    bodyLimit: CONFIG_BODY_BYTES,
    handler: ({ body }, reply) => {
      const { epoch, store, member, xml, ...options } = body;
      if (store === undefined) {
        if (member !== undefined || xml !== undefined) throw onlyWithStore();
        return streamed<'restore'>(reply, (tell) => coordinator.restore(epoch, options, tell));
      }
      const relayed = { store, epoch, member, xml };
      return streamed<'restore'>(reply, (tell) =>
        coordinator.restoreRelayed(relayed, options, tell),
      );
    },
  });
  api.route({
    ...ofLines(clone),
    bodyLimit: CONFIG_BODY_BYTES,
    handler: ({ body }, reply) => {
      const { source, disconnect, epoch, ...options } = body;
      const config = parseClusterConfig(source.text, source.file, source.home);
      const wanted = { ...options, epoch, origin: { source: config, disconnect } };
      return streamed<'clone'>(reply, (tell) => coordinator.clone(wanted, tell));
    },
  });
  api.route({
    ...ofLines(hold),
    handler: async ({ body, raw }, reply) => {
      const lines = new PassThrough();
      const held = await coordinator.hold(body.epoch, () => lines.end());
      reply.raw.once('close', held.release);
      if (raw.socket.destroyed) held.release(); // the client left during the search
      lines.write(`${JSON.stringify({ kind: 'held', hold: held.id, epoch: held.epoch })}\n`);
      return reply.type(LINES).send(lines);
    },
  });
  api.route({
    ...requireHold,
    handler: async ({ params }) => {
      coordinator.requireHold(params.hold);
      return { hold: params.hold };
    },
  });
  api.route({
    ...OPERATIONS.reload,
    bodyLimit: CONFIG_BODY_BYTES,
    handler: ({ body }) => reload(body),
  });
  api.route({
    ...OPERATIONS.untrack,
    handler: async ({ params: { member } }) => {
      return { member, wasTracked: await coordinator.untrack(member) };
    },
  });
  api.route({
    ...abort,
    handler: async () => ({ aborted: coordinator.abort('the operator ended it') }),
  });
  api.route({
    ...verify,
    handler: async ({ params: { epoch } }) => {
      return { epoch, intact: true, places: await coordinator.verify(epoch) } as const;
    },
  });
  api.route({
    ...pin,
    handler: async ({ params: { epoch } }) => {
      await coordinator.pin(epoch, true);
      return { epoch, pinned: true };
    },
  });
  api.route({
    ...unpin,
    handler: async ({ params: { epoch } }) => {
      await coordinator.pin(epoch, false);
      return { epoch, pinned: false };
    },
  });
  api.route({
    ...removeEpoch,
    handler: async ({ params: { epoch } }) => {
      await coordinator.removeEpoch(epoch);
      return { epoch, removed: true } as const;
    },
  });
  api.route({
    ...OPERATIONS.shutdown,
    handler: async (_request, reply) => {
      reply.raw.once('finish', shutdown);
      return { ending: true } as const;
    },
  });
  server.get('/v1/openapi.json', { schema: { hide: true } }, (_request, reply) => {
    const file = join(packageFolder(), 'proxy/protocol/openapi.json');
    return reply.type('application/json').send(createReadStream(file));
  });
  return server;
}

function onlyWithStore(): UmbraError {
  const message = 'bad request: body: member and xml are of restores from a relay’s store';
  return new UmbraError({ code: 'E_BAD_REQUEST', message });
}

/** Returns a route whose answer is a stream of lines: `streamed` says which lines. */
function ofLines<Schema extends Operation['schema']>({
  method,
  url,
  schema: { response, ...schema },
}: Operation & { readonly schema: Schema }) {
  return { method, url, schema: { ...schema, response: response as unknown } };
}

/** Answers with lines of JSON while the work is under way; its outcome is the last line. */
function streamed<Name extends Exclude<LinesName, 'hold'>>(
  reply: FastifyReply,
  work: (tell: (progress: Progress<Name>) => void) => Promise<ReportOf<Name>>,
): FastifyReply {
  const lines = new PassThrough();
  const tell = (line: Progress<Name>) => {
    if (!lines.destroyed && lines.writableLength < UNREAD_LIMIT_BYTES) {
      lines.write(`${JSON.stringify(line)}\n`);
    }
  };
  work(tell).then(
    (report) => lines.end(`${JSON.stringify({ kind: 'done', report })}\n`),
    (error: unknown) => {
      lines.end(`${JSON.stringify({ kind: 'failed', failure: toFailure(error, {}) })}\n`);
    },
  );
  return reply.type(LINES).send(lines);
}
