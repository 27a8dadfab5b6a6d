import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  evacuationOf,
  keeperOf,
  type RelayFlags,
  routesOf,
  stallLimitOf,
} from '../../../tools/cli/relay-options.ts';

const plain: RelayFlags = {
  listen: ['tcp://10.0.0.1:49300'],
  to: ['tcp://10.0.0.2:49300'],
  stallLimit: '30s',
  order: 'in-order',
  slot: '1s',
  headroom: '256MiB',
  keep: '2',
};

function codeOf(use: () => unknown): string | undefined {
  try {
    use();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
}

test('nothing but a pair of addresses: no turns, no shadows', () => {
  assert.equal(routesOf(plain), [
    {
      name: 'vm0',
      listen: { kind: 'tcp', host: '10.0.0.1', port: 49_300 },
      to: { kind: 'tcp', host: '10.0.0.2', port: 49_300 },
    },
  ]);
  assert.is(stallLimitOf(plain), 30_000);
  assert.is(evacuationOf(plain), undefined);
  assert.is(keeperOf(plain), undefined);
});

test('addresses and names go in pairs, each once', () => {
  const { listen, to } = plain;
  const wrong: Partial<RelayFlags>[] = [
    { to: [] },
    { listen: [...listen, 'unix:///x'] },
    { listen: [...listen, ...listen], to: [...to, ...to] },
    { name: ['a', 'b'] },
    { name: ['../a'] },
    { listen: [...listen, 'unix:///x'], to: [...to, 'unix:///y'], name: ['a', 'a'] },
  ];
  for (const one of wrong) {
    const code = codeOf(() => routesOf({ ...plain, ...one }));
    assert.is(code, 'E_RELAY_ADDRESS', JSON.stringify(one));
  }
});

test('invalid options, alone or together, are refused', () => {
  const wrong: [Partial<RelayFlags>, (flags: RelayFlags) => unknown][] = [
    [{ stallLimit: '1ms' }, stallLimitOf],
    [{ stallLimit: 'soon' }, stallLimitOf],
    [{ atOnce: '0' }, evacuationOf],
    [{ atOnce: 'two' }, evacuationOf],
    [{ order: 'round-robin' }, evacuationOf],
    [{ atOnce: '1', slot: '1ms' }, evacuationOf],
    [{ budget: '1GiB' }, keeperOf],
    [{ shadow: '/x', budget: '1' }, keeperOf],
    [{ shadow: '/x', keep: '0' }, keeperOf],
  ];
  for (const [one, read] of wrong) {
    assert.is(
      codeOf(() => read({ ...plain, ...one })),
      'E_CONFIG',
      JSON.stringify(one),
    );
  }
});

test.run();
