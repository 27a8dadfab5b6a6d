import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport } from '../../../proxy/protocol/report.ts';
import { restoreText } from '../../../tools/cli/reports.ts';

const test = suite('cli: reports as text');

type Member = RestoreReport['members'][number];

function restored(...members: readonly Partial<Member>[]): string {
  return restoreText({
    kind: 'restore',
    epoch: 1,
    durationMs: 100,
    verifyMs: 1,
    loadMs: 90,
    skewMs: 1,
    killed: [],
    members: members.map((member, at) => {
      return { member: `n${at}`, mode: 'map', loadMs: 90, bytes: 1000, ...member };
    }),
  });
}

test('an epoch that does not say when it was cut, as those of 0.1.0', () => {
  assert.match(restored({}), /behind by an unknown time/);
  assert.match(restored({ clock: 'kept' }), /behind by an unknown time/);
});

test('clocks that are behind, and one that is ahead', () => {
  assert.match(restored({ clockLagMs: 2000 }, { clockLagMs: 33_000 }), /33(\.0)?s behind/);
  assert.match(restored({ clockLagMs: -5000 }), /5(\.0)?s ahead/);
});

test('one caught up, one whose agent did not answer', () => {
  const clockFailure = { code: 'E_GUEST_AGENT', message: 'no answer', member: 'n1' } as const;
  const text = restored(
    { clockLagMs: 2000, clock: 'caught-up', clockOffMs: -12 },
    { clockLagMs: 2000, clock: 'no-agent', clockFailure },
  );
  assert.match(text, /1 of 2 caught up, now off by 12\s?ms at most/);
  assert.match(text, /n1: no answer \(E_GUEST_AGENT\)/);
});

test.run();
