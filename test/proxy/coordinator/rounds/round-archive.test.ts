import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundArchive } from '../../../../proxy/coordinator/rounds/round-archive.ts';
import { reportRound } from '../../../../proxy/coordinator/rounds/round-report.ts';
import type { RoundReport } from '../../../../proxy/protocol/report.ts';

const test = suite('round archive');
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'umbra-rounds-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

function report(number: number): RoundReport {
  const summary = {
    round: `r${String(number).padStart(6, '0')}-0000000a`,
    epoch: number,
    startedAt: new Date(number * 1000).toISOString(),
    durationMs: 1,
    endReason: undefined,
    policy: 'parallel',
    predictedDowntimeMs: undefined,
    rawPredictedDowntimeMs: undefined,
    failure: undefined,
  };
  return reportRound(summary, new Map(), new Map());
}

test('added reports are read again, oldest first; files are their owner’s only', async () => {
  const archive = new RoundArchive(join(folder, 'rounds'));
  assert.equal(await archive.names(), []);
  for (const number of [2, 1, 3]) await archive.add(report(number));
  assert.equal(
    (await archive.last(2)).map(({ epoch }) => epoch),
    [2, 3],
  );
  assert.is(statSync(join(folder, 'rounds')).mode & 0o777, 0o700);
  const [name = ''] = await archive.names();
  assert.is(statSync(join(folder, 'rounds', `${name}.json`)).mode & 0o777, 0o600);
});

test('the oldest are removed when there are too many', async () => {
  const archive = new RoundArchive(folder);
  for (let number = 1; number <= 53; number++) await archive.add(report(number));
  const names = await archive.names();
  assert.is(names.length, 50);
  assert.is((await archive.read(names[0] ?? ''))?.epoch, 4);
});

test('a damaged report is left out, and an invalid name is not used as a path', async () => {
  const archive = new RoundArchive(folder);
  await archive.add(report(1));
  writeFileSync(join(folder, 'r000002-0000000a.json'), '{"kind": "rou');
  writeFileSync(join(folder, 'r000003-0000000a.json'), '{"kind":"round","startedAt":2026}');
  const whole = JSON.stringify(report(4));
  const wrong = ['"durationMs":"long"', '"durationMs":1e999', '"members":[{"member":"a"}]'];
  for (const [at, part] of wrong.entries()) {
    const key = part.slice(0, part.indexOf(':'));
    const text = whole.replace(new RegExp(`${key}:[^,]+`), part);
    writeFileSync(join(folder, `r00001${at}-0000000a.json`), text);
  }
  assert.is((await archive.last(9)).length, 1);
  assert.is(await archive.read('r000002-0000000a'), undefined);
  assert.is(await archive.read('../../etc/passwd'), undefined);
});

test.run();
