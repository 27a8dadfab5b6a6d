/**
 * The HTTP API, on a real coordinator and catalogue; its agent finds no VM. An input is a request:
 *
 *     METHOD URL
 *     header: value …
 *     (an empty line) body
 *
 * Whatever it is:
 *   - the answer is 2xx, or 4xx with {failure: {code, message}}; never 5xx, never another form;
 *   - a refused request has changed nothing: epochs, pins, manifests and holds;
 *   - an answer of many lines ends with `done` or with a failure that has a code;
 *   - only the request that asks for it shuts the daemon down.
 */
import { strict as assert } from 'node:assert';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import * as z from 'zod';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { buildApi } from '../../../proxy/coordinator/api.ts';
import { Coordinator } from '../../../proxy/coordinator/coordinator.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import type { Agent } from '../../../proxy/protocol/agent.ts';
import { Catalogue, makeEpochManifest } from '../../../shadow/index.ts';
import { mutateJson } from '../mutate-json.ts';
import type { Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';

const home = makeFolder('api');

const CONFIG = parseClusterConfig('{cluster: demo, members: [{name: a, qmp: /x}]}', '/etc/c', home);
const failed = z.looseObject({
  failure: z.looseObject({
    code: z.string().regex(/^[A-Z][A-Z0-9_]+$/),
    message: z.string().min(1),
  }),
});
const lastLine = z.union([
  failed,
  z.looseObject({ kind: z.literal('done') }),
  z.looseObject({ kind: z.literal('held') }),
]);
/** Methods that can be injected; node:http closes the connection on others. */
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'];
type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

const log = pino({ level: 'silent' });
const catalogue = new Catalogue(CONFIG.catalogueDirectory, 'demo');
await makeEpochs();
const manifests = filesOf();
let shutdowns = 0;

export const target: Target = {
  covers: [
    'proxy/coordinator/api.ts',
    'proxy/coordinator/coordinator.ts',
    'proxy/coordinator/epoch',
  ],
  inputBytesMax: 80_000,
  words: [
    'GET ',
    'POST ',
    'PUT ',
    'DELETE ',
    'PATCH ',
    'HEAD ',
    'OPTIONS ',
    '/v1/epochs/',
    '/v1/rounds/',
    '/pin',
    '/verify',
    '%2e%2e%2f',
    '..',
    '%00',
    '%ff',
    '//',
    '?a=1',
    '0x2',
    '1e1',
    '9007199254740993',
    'content-type: application/json\n',
    'content-type: text/plain\n',
    'content-length: 5\n',
    '{"epoch": 1}',
    '"mode": "map"',
    '"__proto__": {}',
    '"from": "disk"',
    'x'.repeat(66_000),
  ],
  mutate: (input, random) => {
    const { head, body } = split(input);
    try {
      const changed = mutateJson(JSON.parse(body), random, [1, 2, 3, 'map', 'disk', 'all']);
      return Buffer.from(`${head}\n\n${JSON.stringify(changed)}`);
    } catch {
      return input;
    }
  },
  check: async (input) => {
    const { head, body } = split(input);
    const [first = '', ...lines] = head.split('\n');
    const [method = '', url = ''] = first.split(' ');
    const headers = Object.fromEntries(
      lines.flatMap((line) => {
        const [, name, value] = /^([a-z-]{1,40}): ?([\x20-\x7e]{0,200})$/.exec(line) ?? [];
        return name === undefined ? [] : [[name, value ?? '']];
      }),
    );
    if (!METHODS.includes(method) || !/^\/[\x21-\x7e]*$/.test(url)) return 'no request';
    return request(method as Method, url, headers, body);
  },
};

async function request(
  method: Method,
  url: string,
  headers: Record<string, string>,
  payload: string,
): Promise<string> {
  const coordinator = new Coordinator(CONFIG, agent(), catalogue, log);
  shutdowns = 0;
  const api = buildApi(coordinator, log, {
    shutdown: () => shutdowns++,
    reload: async () => ({ applied: [] }),
  });
  // A hold is answered until the client releases it: here, until the daemon ends.
  const isHold = method === 'POST' && url.startsWith('/v1/hold');
  const timer = setInterval(() => void coordinator.end(), isHold ? 5 : 200);
  try {
    const { statusCode, body } = await api.inject({ method, url, headers, payload });
    clearInterval(timer);
    assert.ok(statusCode >= 200 && statusCode < 500, `${statusCode}: ${body}`);
    if (shutdowns > 0) assert.ok(method === 'POST' && /shutdown/.test(url));
    if (method !== ('HEAD' as string)) requireForm(statusCode, body);
    if (statusCode >= 400) assert.deepEqual(filesOf(), manifests, `${statusCode} has changed it`);
    else if (JSON.stringify(filesOf()) !== JSON.stringify(manifests)) await makeEpochs();
    return `${statusCode} ${codeIn(body)}`;
  } finally {
    clearInterval(timer);
    await coordinator.end();
    await api.close();
  }
}

function requireForm(status: number, body: string): void {
  if (status >= 400) failed.parse(JSON.parse(body));
  else if (body.endsWith('\n')) {
    const last = lastLine.parse(JSON.parse(body.trimEnd().split('\n').at(-1) ?? ''));
    assert.notEqual(codeIn(JSON.stringify(last)), 'E_INTERNAL', body);
  } else JSON.parse(body);
}

function codeIn(body: string): string {
  return /"failure":\{[^}]*?"code":"([A-Z0-9_]+)"/.exec(body)?.[1] ?? '';
}

/** Makes an agent without VMs: every epoch is whole, and there is nothing to restore. */
function agent(): Agent {
  const refuse = async () => {
    throw new UmbraError({ code: 'E_VM_GONE', message: 'there is no VM' });
  };
  const none = async () => {};
  const known: Partial<Agent> = {
    members: ['a'],
    onNotice: () => {},
    status: async () => [],
    admit: refuse,
    collect: async () => [],
    tidyDisks: none,
    verify: none,
    planRestore: async () => [],
    endRestore: none,
    alivePids: async () => new Map(),
    beginRestore: none,
    cloneOf: () => agent(),
  };
  return known as Agent;
}

async function makeEpochs(): Promise<void> {
  rmSync(CONFIG.directory, { recursive: true, force: true });
  mkdirSync(CONFIG.shadowsDirectory, { recursive: true, mode: 0o700 });
  mkdirSync(join(CONFIG.directory, 'rounds'));
  await catalogue.prepare();
  const members = [{ name: 'a', shadow: 'f'.repeat(64) }];
  const createdAt = '2030-01-01T00:00:00.000Z';
  for (const epoch of [1, 2]) {
    const round = `r00000${epoch}-0123abcd`;
    const facts = { cluster: 'demo', epoch, round, createdAt, members };
    await catalogue.publish(makeEpochManifest(facts));
  }
  writeFileSync(join(CONFIG.catalogueDirectory, '000002.pin'), '');
}

function filesOf(): Record<string, string> {
  const { catalogueDirectory } = CONFIG;
  const names = readdirSync(catalogueDirectory).sort();
  return Object.fromEntries(
    names.map((name) => [name, readFileSync(join(catalogueDirectory, name), 'utf8')]),
  );
}

function split(input: Buffer): { head: string; body: string } {
  const text = input.toString('utf8');
  const end = text.indexOf('\n\n');
  return end < 0
    ? { head: text, body: '' }
    : { head: text.slice(0, end), body: text.slice(end + 2) };
}
