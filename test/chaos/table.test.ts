import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ROUND_STATE_NAMES } from '../../proxy/coordinator/rounds/round.ts';
import { LOAD_STEPS, RELAY_STEPS, RESTORE_STEPS } from '../../proxy/failure/fault-point.ts';
import { STATE_NAMES } from '../../proxy/member/capture/session.ts';
import { PERSIST_STEPS } from '../../shadow/durable/index.ts';
import { STORE_STEPS } from '../../shadow/index.ts';
import type { Judgement } from './judge.ts';
import { allRows } from './rows.ts';
import { table } from './table.ts';

const test = suite('kill matrix');

test('row names are unique, and the matrix has every named step', () => {
  const rows = allRows();
  assert.is(new Set(rows.map(({ name }) => name)).size, rows.length);
  const places = new Set(rows.map(({ location: where }) => where));
  const named = [
    ...STATE_NAMES.map((state) => `member/n0/${state}`),
    ...ROUND_STATE_NAMES.map((state) => `round/${state}`),
    ...STORE_STEPS.map((step) => `store/${step}`),
    ...PERSIST_STEPS.map((step) => `persist/${step}`),
    ...RELAY_STEPS.map((step) => `relay/${step}`),
    ...RESTORE_STEPS.map((step) => `restore/${step}`),
    ...LOAD_STEPS.map((step) => `restore/n0/${step}`),
  ];
  // No work is under way in these states, or only after an earlier failure.
  const quiet = ['member/n0/idle', 'member/n0/undoing', 'round/aborting', 'round/aborted'];
  assert.equal(
    named.filter((location) => !places.has(location)),
    quiet,
  );
});

test('a table has one line for each place, and marks rows that were not run', () => {
  const rows = allRows().filter(({ location: where }) => where === 'restore/loaded');
  const [first, second] = rows.map(({ name }) => name);
  const judged = (row: string, colour: Judgement['colour']) => {
    return [row, { row, colour, why: '', stoodMs: 0 }] as const;
  };
  const judgements = new Map([judged(first ?? '', 'green'), judged(second ?? '', 'red')]);
  assert.equal(table(rows, judgements), [
    '|  | it is killed | it is frozen | QEMU is killed | all of ours are killed |',
    '| --- | --- | --- | --- | --- |',
    '| restore (precopy), restore/loaded | green | RED | ? | ? |',
  ]);
});

test.run();
