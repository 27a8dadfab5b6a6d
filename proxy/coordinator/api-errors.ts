/**
 * Answers to requests that fail: in the work, for what they ask, or before a route has seen them
 * (no such route, no URL, a body too long or of a type that no route reads).
 *
 *     {"failure": {code, message, …}}     the status by code: failure/codes.ts
 */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { statusOf } from '../failure/catalogue.ts';
import { toFailure, UmbraError } from '../failure/failure.ts';
import { newField, newValue } from '../protocol/renamed.ts';

/** Makes every error that the API meets an answer of the one form. */
export function answerErrors(api: FastifyInstance): void {
  api.setErrorHandler(answerError);
  api.setNotFoundHandler(({ method, url }, reply) => {
    const message = `there is no ${method} ${url.slice(0, 200)}`;
    return send(reply, new UmbraError({ code: 'E_ROUTE_UNKNOWN', message }));
  });
}

/** Answers an error; for those, too, that fastify does not give its error handler. */
export function answerError(error: FastifyError, request: FastifyRequest, reply: FastifyReply) {
  const { code = '', statusCode = 500, validation } = error;
  if (validation !== undefined) return send(reply, invalid(error, request));
  if (!code.startsWith('FST_') || statusCode >= 500) return send(reply, error);
  return send(reply, badRequest(error.message || code), statusCode);
}

/** Returns what is wrong with a request, by field; an old spelling is told with the new one. */
function invalid(
  { validation = [], validationContext = 'body' }: FastifyError,
  request: FastifyRequest,
) {
  const root = validationContext === 'params' ? request.params : request.body;
  const issues = validation.map(({ instancePath, message, params }) => {
    const path = instancePath.split('/').filter((part) => part !== '');
    return { field: [validationContext, ...path].join('.'), path, message, params };
  });
  for (const { field, path, params } of issues) {
    const [old] = [params.keys].flat().filter((key) => typeof key === 'string' && newField(key));
    if (typeof old === 'string') return renamed(`${field}: "${old}"`, newField(old));
    const value = path.reduce<unknown>(memberOf, root);
    const present = newValue(path.at(-1) ?? '', value);
    if (present !== undefined) return renamed(`${field}: "${value}"`, present);
  }
  return badRequest(issues.map(({ field, message }) => `${field}: ${message}`).join('; '));
}

function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}

function badRequest(message: string): UmbraError {
  return new UmbraError({ code: 'E_BAD_REQUEST', message: `bad request: ${message}` });
}

function renamed(what: string, present: string | undefined): UmbraError {
  const message = `bad request: ${what} is an old spelling of "${present}"`;
  const fields = 'The fields of every request are in /v1/openapi.json';
  const hint = `${fields}; "${present}" may not be one of this request.`;
  return new UmbraError({ code: 'E_RENAMED', message, hint });
}

function send(reply: FastifyReply, error: unknown, status?: number) {
  const failure = toFailure(error, {});
  return reply.status(status ?? statusOf(failure.code)).send({ failure });
}
