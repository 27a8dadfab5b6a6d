import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { POLICIES, referenceOf } from '../../../proxy/config/explain.ts';
import { POLICY_NAMES } from '../../../proxy/config/policy-names.ts';
import { relaySchema } from '../../../proxy/config/relay-schema.ts';
import { clusterSchema } from '../../../proxy/config/schema.ts';
import { parseDuration, parseSize } from '../../../proxy/config/units.ts';

const test = suite('explain');
/** Options in the reference only: what a cluster is made of. */
const NOT_EXPLAINED = new Set(['cluster', 'members']);

interface Shaped {
  readonly shape?: Record<string, Shaped>;
  readonly def?: { readonly innerType?: Shaped };
}

/** Entries of cluster.yaml: those of relay.yaml have a policy of their own. */
const CLUSTER_OPTIONS = Object.entries(POLICIES)
  .filter(([policy]) => policy !== 'relay')
  .flatMap(([, options]) => options);

test('every option of a relay.yaml is explained, with its default', () => {
  const { relay = [] } = POLICIES;
  const options = optionsOf(relaySchema as unknown as Shaped).filter((one) => one !== 'routes');
  const routes = ['name', 'listen', 'to'].map((one) => `routes[].${one}`);
  assert.equal(relay.map(({ option }) => option).sort(), [...routes, ...options].sort());
  const usual = Object.fromEntries(relay.map((entry) => [entry.option, entry.default]));
  assert.is(usual.stallLimit, '30s');
  assert.is(usual['migrations.inFlight'], '16MiB, with store.directory');
  assert.is(usual['epochs.keep'], '2, with store.directory');
});

test('every option of a cluster.yaml is explained', () => {
  const explained = new Set(CLUSTER_OPTIONS.map(({ option }) => option));
  const missing = optionsOf(clusterSchema as unknown as Shaped).filter(
    (one) => !explained.has(one),
  );
  assert.equal(missing, []);
});

test('every option says its unit, default and effect', () => {
  assert.equal(Object.keys(POLICIES), [...POLICY_NAMES]);
  for (const options of Object.values(POLICIES)) {
    for (const { option, unit, default: usual, effect } of options) {
      for (const text of [unit, usual, effect]) assert.ok(text.length > 0, option);
    }
  }
});

test('defaults are those of the schema, as an operator writes them', () => {
  const usual = new Map(CLUSTER_OPTIONS.map((entry) => [entry.option, entry.default]));
  const defaults = {
    'round.capture': 'auto: tracked, background, precopy, stop-copy',
    'round.stopDeadline': '10s',
    'round.slot': '100ms',
    'round.endWhen': '[all-first-pass]',
    'round.inFlight': '64MiB',
    'store.directory': 'the cluster’s own',
    'store.foldAt': '0.5',
    'store.queueLimit': '5min, with whenFull: queue',
    'persist.timeLimit': '10min, with mode: before-commit',
    'checkpoint.liveSlowdown': '0.25',
    'finish-together': 'the default',
    parallel: 'not chosen',
  };
  for (const [option, text] of Object.entries(defaults)) assert.is(usual.get(option), text, option);
  assert.is(parseDuration(usual.get('round.maxLive') ?? ''), 60_000);
  assert.is(parseSize(usual.get('store.headroom') ?? ''), 256 * 2 ** 20);
});

test('the reference has a row for each option, and for what a cluster is made of', () => {
  const [reference = ''] = referenceOf().split('### relay');
  const options = optionsOf(clusterSchema as unknown as Shaped);
  for (const option of [...options, 'cluster', 'members[].command']) {
    assert.is(reference.split(`| \`${option}\` |`).length, 2, option);
  }
});

function optionsOf(schema: Shaped, path = ''): string[] {
  const { shape } = schema;
  if (shape !== undefined) {
    return Object.entries(shape)
      .filter(([key]) => path !== '' || !NOT_EXPLAINED.has(key))
      .flatMap(([key, below]) => optionsOf(below, path === '' ? key : `${path}.${key}`));
  }
  const inner = schema.def?.innerType;
  return inner === undefined ? [path] : optionsOf(inner, path);
}

test.run();
