/** Differences between two readings of a file: what can be taken up, and what is refused. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { clusterChanges, relayChanges } from '../../../proxy/config/changes.ts';
import { parseCluster } from '../../../proxy/config/config.ts';
import { parseRelay } from '../../../proxy/config/relay-config.ts';
import type { UmbraError } from '../../../proxy/failure/failure.ts';

const test = suite('changes');
const MEMBERS = 'members: [{name: a, qmp: a.sock}, {name: b, qmp: b.sock}]';
const ROUTES = 'routes: [{name: a, listen: "unix:///a", to: "unix:///b"}]';

function cluster(text: string, file = '/etc/umbra/cluster.yaml') {
  return parseCluster({ text, file, home: '/run/umbra' });
}

function changed(before: string, after: string): string[] {
  const texts = [before, after].map((rest) => cluster(`cluster: demo\n${MEMBERS}\n${rest}`));
  const [first, second] = texts as [ReturnType<typeof cluster>, ReturnType<typeof cluster>];
  return told(clusterChanges(first, second));
}

function told(changes: ReturnType<typeof clusterChanges>): string[] {
  return changes.map((one) => `${one.option}: ${one.before} → ${one.after}`);
}

function relay(rest: string, options: Parameters<typeof parseRelay>[0]['options'] = []) {
  return parseRelay({ file: { path: '/etc/relay.yaml', text: `${ROUTES}\n${rest}` }, options });
}

function refusal(use: () => unknown): UmbraError {
  try {
    use();
  } catch (error) {
    return error as UmbraError;
  }
  throw new Error('it was accepted');
}

test('budgets and policies are named as they are written, with old and new value', () => {
  assert.equal(changed('store: {budget: 8GiB}', 'store: {budget: 4GiB, headroom: 1GiB}'), [
    'store.headroom: 256MiB → 1GiB',
    'store.budget: 8GiB → 4GiB',
  ]);
  assert.equal(changed('', 'round: {endWhen: [no-progress], multiplexing: parallel}'), [
    'round.multiplexing: finish-together → parallel',
    'round.endWhen: [all-first-pass] → [no-progress]',
  ]);
  assert.equal(changed('checkpoint: {every: 10min}', ''), [
    'checkpoint.every: 10min → none: a checkpoint is taken when asked for',
  ]);
});

test('what means the same has not changed', () => {
  assert.equal(changed('store: {headroom: 1GiB}', 'store: {headroom: 1024MiB}'), []);
  assert.equal(changed('', 'epochs: {keep: 2}\n# a comment'), []);
});

test('what runs is fixed: all of it is named, and nothing else is', () => {
  const before = cluster(`cluster: demo\n${MEMBERS}\nstore: {budget: 1GiB}`);
  const text = `cluster: demo
members: [{name: a, qmp: other.sock}, {name: c, qmp: b.sock}]
store: {directory: /dev/shm/x, budget: 2GiB}
persist: {to: /var/lib/x}
network: {switch: ['{dir}/n']}
`;
  const { code, message, failure } = refusal(() => clusterChanges(before, cluster(text)));
  assert.is(code, 'E_RELOAD_FIXED');
  const keys = 'store.directory, persist.to, network.switch, members[0].qmp, members[1].name';
  assert.is(message, `cannot change while it runs: ${keys}; nothing was changed`);
  assert.match(failure.hint ?? '', 'umbra down');
  const more = `cluster: demo\n${MEMBERS.replace(']', ', {name: c, qmp: c}]')}`;
  assert.match(refusal(() => clusterChanges(before, cluster(more))).message, 'runs: members;');
  const other = `cluster: other\n${MEMBERS}`;
  assert.match(refusal(() => clusterChanges(before, cluster(other))).message, 'runs: cluster');
});

test('a file that was moved leads elsewhere, unless its paths are absolute', () => {
  const text = `cluster: demo\n${MEMBERS}`;
  const moved = cluster(text, '/elsewhere/cluster.yaml');
  assert.match(
    refusal(() => clusterChanges(cluster(text), moved)).message,
    'members[0], members[1]',
  );
  const absolute = text
    .replaceAll(/(\w)\.sock/g, '/run/$1.sock')
    .replaceAll('}', ', workingDirectory: /}');
  assert.equal(clusterChanges(cluster(absolute), cluster(absolute, '/elsewhere/c.yaml')), []);
});

test('a relay takes up turns, limits and budgets, and keeps its routes and folders', () => {
  const before = relay('store: {directory: /x, budget: 1GiB}');
  const after = relay(
    'store: {directory: /x, budget: 2GiB}\nmigrations: {atOnce: 1}\nstallLimit: 1min',
  );
  assert.equal(told(relayChanges(before, after)), [
    'migrations.atOnce: none: all flow at once → 1',
    'stallLimit: 30s → 1min',
    'store.budget: 1GiB → 2GiB',
  ]);
  const text = `${ROUTES.replace('///b', '///c')}\nreport: /r`;
  const other = parseRelay({ file: { path: '/etc/relay.yaml', text }, options: [] });
  const { code, message } = refusal(() => relayChanges(before, other));
  assert.is(code, 'E_RELOAD_FIXED');
  assert.match(message, 'runs: routes[0].to, store.directory, report;');
});

test('an option of the command hides a change of the file', () => {
  const options = [{ flag: '--at-once', path: 'migrations.atOnce', value: 3 }];
  const [before, after] = [relay('', options), relay('migrations: {atOnce: 2}', options)];
  assert.equal(relayChanges(before, after), []);
});

test.run();
