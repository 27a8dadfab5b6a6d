/**
 * Fuzz target: manifests of shadows, epochs and the durable tier. Reading throws nothing but a
 * ShadowError. A manifest that is accepted is accepted again, with the same meaning, when it is
 * written again. No name in it reaches out of its folder.
 */
import { strict as assert } from 'node:assert';
import { DURABLE_FORMAT } from '../../../shadow/durable/durable-manifest.ts';
import { type ManifestFormat, unwrap, wrap } from '../../../shadow/envelope.ts';
import { ShadowError } from '../../../shadow/errors.ts';
import { EPOCH_FORMAT, SHADOW_FORMAT } from '../../../shadow/manifest.ts';
import { mutateLines } from '../mutate-lines.ts';
import { codeOf, type Target } from '../target.ts';

const FORMATS: readonly ManifestFormat<object>[] = [SHADOW_FORMAT, EPOCH_FORMAT, DURABLE_FORMAT];

export const target: Target = {
  covers: [
    'shadow/envelope.ts',
    'shadow/format-version.ts',
    'shadow/manifest.ts',
    'shadow/durable/durable-manifest.ts',
  ],
  inputBytesMax: 100_000,
  words: [
    '"version":1',
    '"version":4',
    '"requires":["stripes"]',
    '"base":',
    '"../x"',
    '"/x"',
    '1e99',
    '-0',
    '"__proto__":{}',
    '[['.repeat(500),
  ],
  mutate: mutateLines,
  mend,
  check(input) {
    const text = input.toString('utf8');
    const outcomes = FORMATS.map((format) => read(text, format));
    return outcomes.find((outcome) => outcome.startsWith('accepted')) ?? outcomes[0] ?? '';
  },
};

/** Makes the digest fit the body. */
export function mend(input: Buffer): Buffer {
  try {
    const { body } = JSON.parse(input.toString('utf8')) as { body: object };
    return Buffer.from(wrap(body));
  } catch {
    return input;
  }
}

function read(text: string, format: ManifestFormat<object>): string {
  let manifest: object;
  try {
    manifest = unwrap(text, format, '/store/manifest.json');
  } catch (error) {
    return codeOf(error, ShadowError);
  }
  assert.deepEqual(unwrap(wrap(manifest), format, '/again'), manifest);
  for (const name of namesIn(manifest)) assert.match(name, /^[A-Za-z0-9][A-Za-z0-9._-]*$/);
  return `accepted ${format.name}`;
}

/** Finds the texts that become part of a path. */
function namesIn(value: unknown, key = ''): string[] {
  if (typeof value === 'string') {
    return ['file', 'round', 'name'].includes(key) ? [value] : [];
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([inner, one]) => {
    return inner === 'identity' ? [] : namesIn(one, inner);
  });
}
