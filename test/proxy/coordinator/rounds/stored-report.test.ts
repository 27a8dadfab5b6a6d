/** Reports in files: those of this version, those of 0.1.0, and those of a version to come. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { reportRound } from '../../../../proxy/coordinator/rounds/round-report.ts';
import { readReport, writeReport } from '../../../../proxy/coordinator/rounds/stored-report.ts';

/** A report as 0.1.0 has written it: no version, `protocol`, null for what was infinite. */
const OLD = {
  kind: 'round',
  round: 'r000007-0123abcd',
  outcome: 'committed',
  epoch: 7,
  startedAt: '2030-01-01T00:00:00.000Z',
  durationMs: 1000,
  endReason: 'all-first-pass',
  policy: 'parallel',
  predictedDowntimeMs: null,
  streamBytes: 1,
  liveBytes: 2,
  drainBytes: 3,
  repeatedPages: 4,
  storedBytes: 5,
  members: [
    { member: 'a', capture: 'background', protocol: 'all stopped', timeline: [] },
    { member: 'b', capture: 'background', protocol: 'frames held', timeline: [], soon: 1 },
  ],
};

const test = suite('stored report');

test('a written report is read again; its version is in the file only', () => {
  const summary = {
    round: 'r000001-00000000',
    epoch: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    durationMs: 1,
    endReason: undefined,
    policy: 'parallel',
    predictedDowntimeMs: undefined,
    rawPredictedDowntimeMs: undefined,
    failure: { code: 'E_X', message: 'x' },
  };
  const report = reportRound(summary, new Map([['a', { cut: 'all-stopped' }]]), new Map());
  const text = writeReport(report);
  assert.is(JSON.parse(text).version, 2);
  assert.equal(readReport(text), JSON.parse(JSON.stringify(report)));
});

test('a report of 0.1.0 is read in the present spelling', () => {
  const report = readReport(JSON.stringify(OLD));
  assert.equal(
    report?.members.map(({ cut }) => cut),
    ['all-stopped', 'frames-held'],
  );
  assert.not('protocol' in (report?.members[0] ?? {}));
  assert.is(report?.predictedDowntimeMs, undefined);
  assert.is(report?.epoch, 7);
});

test('a report of a later version is left out, and so is other content', () => {
  assert.is(readReport(JSON.stringify({ ...OLD, version: 3 })), undefined);
  for (const text of ['', 'null', '[]', '"x"', '{"kind":"round"}']) {
    assert.is(readReport(text), undefined, text);
  }
});

test.run();
