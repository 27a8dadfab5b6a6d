/**
 * Fuzz target: cluster.yaml, and the same text as a relay.yaml. Whatever the text:
 *   - it is accepted, or refused with E_CONFIG and named problems, in a time bounded by its length;
 *   - an accepted text is accepted again, with the same meaning, when it is written again;
 *   - every folder of the cluster is in its home, and no path contains a NUL.
 */
import { strict as assert } from 'node:assert';
import { parse, stringify } from 'yaml';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { parseRelay } from '../../../proxy/config/relay-config.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import type { ClusterConfig } from '../../../proxy/protocol/cluster.ts';
import { mutateJson } from '../mutate-json.ts';
import { codeOf, type Target } from '../target.ts';

const HOME = '/home/of/clusters';
const FILE = '/etc/umbra/cluster.yaml';
/** Errors are not located: they are not read, and there may be thousands. */
const QUIET = { logLevel: 'error', prettyErrors: false } as const;
const LEAVES = [
  '1s',
  '5min',
  '0ms',
  '999999h',
  '1GiB',
  '0B',
  '99999TiB',
  'optimal',
  'auto',
  'parallel',
  '{dir}/x',
  '{name}',
  '{index}',
  '{dir',
  'predicted-downtime 5ms',
  'no-progress',
  'queue',
  'qemu:///system',
  ['-qmp', 'unix:/x,server=on'],
  { to: '/var/lib/umbra' },
  { every: '1s' },
];

export const target: Target = {
  covers: [
    'proxy/config',
    'proxy/config/units.ts',
    'proxy/config/end-when.ts',
    'proxy/config/rules.ts',
  ],
  inputBytesMax: 20_000,
  words: [
    '&a',
    '*a',
    '<<: *a',
    '!!binary ',
    '!!set ',
    '---\n',
    '...\n',
    '? ',
    ': ',
    '- ',
    '\n  ',
    '\t',
    '|',
    '>',
    '{',
    '[',
    '#',
    '%YAML 1.1\n',
    '"',
    '0x1f',
    '.nan',
    '-.inf',
    '~',
    '..',
    '\0',
    '\u2028',
    'cluster: ',
    'members: ',
    'round: ',
    'persist: ',
    'routes: ',
    'migrations: ',
    'tcp://[::1]:4',
    '[[[[[[[['.repeat(50),
    '{a: '.repeat(300),
  ],
  mutate: (input, random) => {
    try {
      const value: unknown = parse(input.toString('utf8'), QUIET);
      return Buffer.from(stringify(mutateJson(value, random, LEAVES)));
    } catch {
      return input;
    }
  },
  check(input) {
    const text = input.toString('utf8');
    checkAsRelay(text);
    let config: ClusterConfig;
    try {
      config = parseClusterConfig(text, FILE, HOME);
    } catch (error) {
      const code = codeOf(error, UmbraError);
      assert.equal(code, 'E_CONFIG');
      assert.ok((error as Error).message.startsWith(`${FILE}: `));
      return code;
    }
    requireInside(config);
    const again = stringify(parse(text, { ...QUIET, maxAliasCount: 100 }));
    assert.deepEqual(parseClusterConfig(again, FILE, HOME), config);
    return 'accepted';
  },
};

/** Reads a text as a relay.yaml: it is accepted, or refused with E_CONFIG and named problems. */
function checkAsRelay(text: string): void {
  try {
    const { routes } = parseRelay({ file: { path: FILE, text }, options: [] }).config;
    for (const { name } of routes) assert.match(name, /^[a-z0-9-]+$/);
  } catch (error) {
    assert.equal(codeOf(error, UmbraError), 'E_CONFIG');
    assert.ok((error as Error).message.startsWith(`${FILE}: `));
  }
}

function requireInside({ cluster, directory, members, ...config }: ClusterConfig): void {
  assert.equal(directory, `${HOME}/${cluster}`);
  assert.match(cluster, /^[a-z0-9-]+$/);
  for (const { name, directory: own } of members) {
    assert.match(name, /^[a-z0-9-]+$/);
    assert.equal(own, `${directory}/vm/${name}`);
  }
  assert.ok(config.shadowsDirectory.endsWith('/shadows'));
  assert.ok(config.round.stopDeadlineMs > 0 && config.round.stopDeadlineMs <= 86_400_000);
  assert.ok(Number.isSafeInteger(config.store.headroomBytes));
  const strings = JSON.stringify({ members, ...config });
  assert.ok(!strings.includes('\\u0000'), 'a NUL in a path');
}
