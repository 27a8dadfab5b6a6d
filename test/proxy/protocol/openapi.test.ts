/** openapi.json in the repository is what the schemas say, and refers only to what it has. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OPERATIONS } from '../../../proxy/protocol/operator.ts';
import { openApi } from '../../../tools/reference/openapi.ts';

const FILE = fileURLToPath(new URL('../../../proxy/protocol/openapi.json', import.meta.url));
const text = readFileSync(FILE, 'utf8');

const test = suite('openapi.json');

test('it is up to date (npm run openapi)', async () => {
  assert.is(text === (await openApi()), true, 'it is stale: run npm run openapi');
});

test('every operation is in it, by name', () => {
  const names = [...text.matchAll(/"operationId": "(\w+)"/g)].map(([, name]) => name);
  assert.equal(names.sort(), Object.keys(OPERATIONS).sort());
});

test('every reference leads to a schema, and every schema is referred to', () => {
  const { components } = JSON.parse(text) as { components: { schemas: Record<string, unknown> } };
  const found = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name);
  assert.equal([...new Set(found)].sort(), Object.keys(components.schemas).sort());
});

test.run();
