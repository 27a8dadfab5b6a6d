import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { POLICIES } from '../../policies/index.ts';
import { clusterSchema } from '../../proxy/config/schema.ts';

const test = suite('explain');
/** Said in the README: what a cluster is made of. */
const NOT_OPTIONS = new Set(['cluster', 'members']);

interface Shaped {
  readonly shape?: Record<string, Shaped>;
  readonly def?: { readonly innerType?: Shaped };
}

test('every option of a cluster.yaml is explained', () => {
  const explained = new Set(
    Object.values(POLICIES)
      .flat()
      .map(({ option }) => option),
  );
  const missing = optionsOf(clusterSchema as unknown as Shaped).filter(
    (one) => !explained.has(one),
  );
  assert.equal(missing, []);
});

function optionsOf(schema: Shaped, path = ''): string[] {
  const { shape } = schema;
  if (shape !== undefined) {
    return Object.entries(shape)
      .filter(([key]) => path !== '' || !NOT_OPTIONS.has(key))
      .flatMap(([key, below]) => optionsOf(below, path === '' ? key : `${path}.${key}`));
  }
  const inner = schema.def?.innerType;
  return inner === undefined ? [path] : optionsOf(inner, path);
}

test.run();
