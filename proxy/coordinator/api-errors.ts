/**
 * What a request is told that fails, wherever it does: in the work, in what was asked, or before anyone has
 * looked at it (no such route, no URL, a body too long or of a type nobody reads).
 *
 *     {"failure": {code, message, …}}     400, 413, 414, 415 bad request · 404 not there · 409 refused
 */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { toFailure, UmbraError } from '../failure/failure.ts';

const NOT_FOUND: ReadonlySet<string> = new Set([
  'E_EPOCH_UNKNOWN',
  'E_MEMBER_UNKNOWN',
  'E_ROUND_UNKNOWN',
  'E_HOLD_UNKNOWN',
  'E_ROUTE_UNKNOWN',
]);
const BAD_REQUEST = 'E_BAD_REQUEST';

export function answerErrors(api: FastifyInstance): void {
  api.setErrorHandler(answerError);
  api.setNotFoundHandler(({ method, url }, reply) => {
    const message = `there is no ${method} ${url.slice(0, 200)}`;
    return send(reply, new UmbraError({ code: 'E_ROUTE_UNKNOWN', message }));
  });
}

/** For the errors that fastify does not tell its error handler. */
export function answerError(error: unknown, _request: FastifyRequest, reply: FastifyReply) {
  return send(reply, error);
}

export function badRequest(message: string): UmbraError {
  return new UmbraError({ code: BAD_REQUEST, message: `bad request: ${message}` });
}

function send(reply: FastifyReply, error: unknown) {
  const { code = '', statusCode = 500, message } = error as Partial<FastifyError>;
  const refusedByFastify = code.startsWith('FST_') && statusCode < 500;
  const failure = toFailure(refusedByFastify ? badRequest(message ?? code) : error, {});
  const status = refusedByFastify ? statusCode : statusOf(failure.code);
  return reply.status(status).send({ failure });
}

function statusOf(code: string): number {
  if (NOT_FOUND.has(code)) return 404;
  if (code === BAD_REQUEST) return 400;
  return code === 'E_INTERNAL' ? 500 : 409;
}
