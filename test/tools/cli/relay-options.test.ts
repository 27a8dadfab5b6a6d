/** A relay.yaml, the options beside it, and what a relay makes of both. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { UmbraError } from '../../../proxy/failure/failure.ts';
import { type RelayFlags, readRelay } from '../../../tools/cli/relay-options.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';

const test = suite('relay options');
const plain: RelayFlags = { listen: ['tcp://10.0.0.1:49300'], to: ['tcp://10.0.0.2:49300'] };
const ROUTES = 'routes: [{name: a, listen: "unix:///run/a", to: "tcp://[::1]:1"}]';
let folder = '';

test.before(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-relay-'));
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

function fromFile(text: string, flags: RelayFlags = {}) {
  const file = join(folder, 'relay.yaml');
  writeFileSync(file, text);
  return readRelay(file, flags).config;
}

function failureOf(use: () => unknown): UmbraError {
  try {
    use();
  } catch (error) {
    return error as UmbraError;
  }
  throw new Error('it was accepted');
}

test('nothing but a pair of addresses: no turns, no shadows', () => {
  assert.equal(readRelay(undefined, plain).config, {
    routes: [
      {
        name: 'vm0',
        listen: { kind: 'tcp', host: '10.0.0.1', port: 49_300 },
        to: { kind: 'tcp', host: '10.0.0.2', port: 49_300 },
      },
    ],
    stallLimitMs: 30_000,
    evacuation: undefined,
    store: undefined,
    report: undefined,
  });
});

test('addresses go in pairs, and can be parsed', () => {
  const { listen = [] } = plain;
  const wrong: RelayFlags[] = [
    { to: [] },
    { listen: [...listen, 'unix:///x'] },
    { listen: ['nowhere'] },
    { name: ['a', 'b'] },
  ];
  for (const one of wrong) {
    const { code } = failureOf(() => readRelay(undefined, { ...plain, ...one }));
    assert.is(code, 'E_RELAY_ADDRESS', JSON.stringify(one));
  }
});

test('invalid options, alone or together, are refused by their names', () => {
  const [listen = '', to = ''] = [...(plain.listen ?? []), ...(plain.to ?? [])];
  const wrong: readonly (readonly [RelayFlags, RegExp])[] = [
    [{ stallLimit: '1ms' }, /--stall-limit: must be at least 1s/],
    [{ stallLimit: 'soon' }, /--stall-limit: must be a duration.*"soon"/],
    [{ atOnce: '0' }, /--at-once: must be at least 1/],
    [{ atOnce: 'two' }, /--at-once: must be a whole number/],
    [{ order: 'round-robin' }, /--order: has no effect without migrations\.atOnce/],
    [{ atOnce: '1', slot: '1ms' }, /--slot: must be at least 50ms/],
    [{ budget: '1GiB' }, /--budget: has no effect without store\.directory/],
    [{ shadow: '/x', budget: '1' }, /--budget: must be a size/],
    [{ shadow: '/x', budget: '1MiB' }, /--budget: .*no more than what is in flight/],
    [{ shadow: '/x', keep: '0' }, /--keep: must be at least 1/],
    [{ name: ['../a'] }, /--listen \[0\]\.name: must be 1 to 32/],
    [{ listen: [listen, listen], to: [to, to] }, /--listen \[1\]\.listen: .*of another route/],
  ];
  for (const [one, expected] of wrong) {
    const { code, message } = failureOf(() => readRelay(undefined, { ...plain, ...one }));
    assert.is(code, 'E_CONFIG', JSON.stringify(one));
    assert.match(message, expected);
  }
});

test('a file says all of it; its paths are relative to it', () => {
  const config = fromFile(`
${ROUTES}
migrations: {atOnce: 2, order: finish-together, slot: 2s, inFlight: 64MiB}
stallLimit: 1min
store: {directory: shadows, budget: 8GiB, headroom: 1GiB}
epochs: {keep: 3}
report: /var/lib/reports
`);
  assert.equal(config, {
    routes: [
      {
        name: 'a',
        listen: { kind: 'unix', path: '/run/a' },
        to: { kind: 'tcp', host: '::1', port: 1 },
      },
    ],
    stallLimitMs: 60_000,
    evacuation: { order: 'finish-together', atOnce: 2, slotMs: 2_000 },
    store: {
      directory: join(folder, 'shadows'),
      budgetBytes: 8 * 2 ** 30,
      headroomBytes: 2 ** 30,
      keep: 3,
      inFlightBytes: 64 * 2 ** 20,
    },
    report: '/var/lib/reports',
  });
});

test('options take the place of the file’s; routes are in one of the two', () => {
  const text = `${ROUTES}\nmigrations: {atOnce: 2}\nstore: {directory: /x, budget: 1GiB}\n`;
  const config = fromFile(text, { atOnce: '3', budget: '2GiB', shadow: 'here', report: 'r' });
  assert.is(config.evacuation?.atOnce, 3);
  assert.is(config.store?.budgetBytes, 2 * 2 ** 30);
  assert.equal(
    [config.store?.directory, config.report],
    [join(process.cwd(), 'here'), join(process.cwd(), 'r')],
  );
  const { code, message } = failureOf(() => fromFile(text, plain));
  assert.is(code, 'E_CONFIG');
  assert.match(message, /--listen: the file has the routes/);
});

test('every problem of a file is named by file, line and key; of an option, by its name', () => {
  const text = `${ROUTES}
migrations:
  order: sideways
  atOnce: many
store: {budget: lots}
extra: 1
`;
  const { code, message } = failureOf(() => fromFile(text, { stallLimit: '1ms' }));
  assert.is(code, 'E_CONFIG');
  for (const expected of [
    /relay\.yaml: 5 problems/,
    /line 3: migrations\.order: /,
    /line 4: migrations\.atOnce: must be a whole number/,
    /line 5: store\.budget: must be a size.*"lots"/,
    /line 6: extra: no such option/,
    /\n {2}--stall-limit: must be at least 1s/,
  ]) {
    assert.match(message, expected);
  }
  const first = 'routes:\n- {listen: "unix:///a", to: "unix:///b"}';
  const twice = `${first}\n- {listen: "unix:///a", to: "x"}`;
  assert.match(
    failureOf(() => fromFile(twice)).message,
    /line 3: routes\[1\]\.to: x: it is neither/,
  );
  const same = twice.replace('"x"', '"unix:///c"');
  assert.match(
    failureOf(() => fromFile(same)).message,
    /line 3: routes\[1\]\.listen: .*another route/,
  );
  assert.match(failureOf(() => fromFile('')).message, /relay\.yaml: 1 problem/);
  assert.match(
    failureOf(() => fromFile('stallLimit: 1s')).message,
    /routes: must list at least one/,
  );
});

test('a file that is not there', () => {
  const { code } = failureOf(() => readRelay(join(folder, 'none.yaml'), {}));
  assert.is(code, 'E_CONFIG_FILE');
});

test.run();
