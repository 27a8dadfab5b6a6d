/**
 * The API as a daemon opens it: a unix socket that only its owner can use. Nothing too long is
 * taken, no name leads out of the cluster's folder, and every refusal has its code.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { CONFIG_LIMIT_BYTES } from '../../../proxy/config/text.ts';
import { buildApi } from '../../../proxy/coordinator/api.ts';
import { Coordinator } from '../../../proxy/coordinator/coordinator.ts';
import type { Failure } from '../../../proxy/failure/failure.ts';
import { listenPrivately } from '../../../proxy/host/private-socket.ts';
import { Catalogue } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const OTHER_USER = '65534';
const JSON_BODY = { 'content-type': 'application/json' };
const test = suite('API');
let root = '';
let api: FastifyInstance;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-api-'));
  writeFileSync(join(root, 'secret.json'), '{}');
  const config = parseClusterConfig('{cluster: demo, members: [{name: a, qmp: /x}]}', '/c', root);
  const log = pino({ level: 'silent' });
  const catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  const agent = { onNotice: () => {}, status: async () => [] };
  api = buildApi(new Coordinator(config, agent as never, catalogue, log), log, {
    shutdown: () => {},
    reload: async () => ({ applied: [] }),
  });
});
test.after.each(async () => {
  await api.close();
  rmSync(root, { recursive: true, force: true });
});

async function refusal(method: 'GET' | 'POST' | 'DELETE', url: string, payload = '') {
  const headers = payload === '' ? {} : JSON_BODY;
  const answer = await api.inject({ method, url, headers, payload });
  const { failure } = JSON.parse(answer.body) as { failure: Failure };
  return `${answer.statusCode} ${failure.code}`;
}

test('its socket is accessible to its owner only, in any folder', async () => {
  const path = join(root, 'api.sock');
  const before = process.umask(0);
  await listenPrivately(api, path);
  process.umask(before);
  assert.is(statSync(path).mode & 0o777, 0o600);
  const socket = connect(path);
  await once(socket, 'connect');
  socket.destroy();
  if (process.geteuid?.() !== 0) return;
  chmodSync(root, 0o755);
  const dial =
    `require('net').connect('${path}').on('error', e => console.log(e.code))` +
    `.on('connect', () => process.exit())`;
  const other = [
    '--reuid',
    OTHER_USER,
    '--regid',
    OTHER_USER,
    '--clear-groups',
    process.execPath,
    '-e',
    dial,
  ];
  const { stdout } = spawnSync('setpriv', other, { encoding: 'utf8' });
  assert.is(stdout.trim(), 'EACCES', 'another user is refused by the kernel');
});

test('a body may be as long as the limit, and no longer', async () => {
  const body = (bytes: number) => '{}'.padEnd(bytes);
  const limit = 64 * 1024;
  assert.is(await refusal('POST', '/v1/hold', body(limit)), '404 E_EPOCH_UNKNOWN');
  assert.is(await refusal('POST', '/v1/hold', body(limit + 1)), '413 E_BAD_REQUEST');
  const clone = 2 * CONFIG_LIMIT_BYTES;
  assert.is(await refusal('POST', '/v1/clone', body(clone)), '400 E_BAD_REQUEST');
  assert.is(await refusal('POST', '/v1/clone', body(clone + 1)), '413 E_BAD_REQUEST');
});

test('no name leads out of the folder', async () => {
  for (const name of ['..%2Fsecret', '..%2f..%2fetc%2fpasswd', '%2Fetc%2Fpasswd', 'secret', '.']) {
    assert.is(await refusal('GET', `/v1/rounds/${name}`), '404 E_ROUND_UNKNOWN', name);
    assert.is(await refusal('DELETE', `/v1/epochs/${name}`), '400 E_BAD_REQUEST', name);
  }
  assert.is(await refusal('GET', `/v1/rounds/${'x'.repeat(65)}`), '400 E_BAD_REQUEST');
  assert.is(await refusal('GET', `/v1/rounds/${'x'.repeat(200)}`), '414 E_BAD_REQUEST');
});

test('a request without a route is refused in the same form', async () => {
  assert.is(await refusal('GET', '/v1/no-such-thing'), '404 E_ROUTE_UNKNOWN');
  assert.is(await refusal('GET', '/v1/rounds/%E0%A4%A'), '400 E_BAD_REQUEST');
  assert.is(await refusal('POST', '/v1/hold', '{"epoch": '), '400 E_BAD_REQUEST');
  assert.is(await refusal('POST', '/v1/hold', '{"__proto__": {"epoch": 1}}'), '400 E_BAD_REQUEST');
  assert.is(await refusal('POST', '/v1/hold', '{"epoch": 1, "more": 2}'), '400 E_BAD_REQUEST');
});

test('an old spelling is refused with the new one', async () => {
  const payload = JSON.stringify({ epoch: 1, protocol: 'auto' });
  const answer = await api.inject({
    method: 'POST',
    url: '/v1/restore',
    headers: JSON_BODY,
    payload,
  });
  const { failure } = JSON.parse(answer.body) as { failure: Failure };
  assert.is(`${answer.statusCode} ${failure.code}`, '400 E_RENAMED');
  assert.match(failure.message, '"protocol" is an old spelling of "cut"');
  assert.match(failure.hint ?? '', '"cut"');
});

test('a refusal names each field', async () => {
  const payload = JSON.stringify({ epoch: 'one', mode: 'fast' });
  const answer = await api.inject({
    method: 'POST',
    url: '/v1/restore',
    headers: JSON_BODY,
    payload,
  });
  assert.match(answer.body, /body\.epoch: .*body\.mode: /);
});

test.run();
