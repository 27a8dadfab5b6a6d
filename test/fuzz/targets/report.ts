/**
 * Fuzz target: reports of past rounds. No work depends on them. Whatever the file, it is left out,
 * or it is listed, used for calibration, printed and drawn. None of that throws, and the drawing
 * contains no foreign markup.
 */
import { strict as assert } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { calibrate, correct, NO_CALIBRATION } from '../../../policies/index.ts';
import { RoundArchive } from '../../../proxy/coordinator/rounds/round-archive.ts';
import { outcomeOf } from '../../../proxy/coordinator/rounds/round-outcome.ts';
import { roundText } from '../../../tools/cli/reports.ts';
import { timelineSvg } from '../../../tools/cli/timeline-svg.ts';
import { mutateLines } from '../mutate-lines.ts';
import type { Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';

const folder = makeFolder('report');
const ROUND = 'r000007-0123abcd';

export const target: Target = {
  covers: [
    'proxy/coordinator/rounds/round-archive.ts',
    'proxy/coordinator/rounds/round-outcome.ts',
    'tools/cli/',
  ],
  inputBytesMax: 20_000,
  words: ['"failure":null', '"members":[]', '"timeline":[]', '1e999', '<script>', '"downtimeMs":'],
  mutate: mutateLines,
  async check(input) {
    writeFileSync(join(folder, `${ROUND}.json`), input);
    const archive = new RoundArchive(folder);
    const report = await archive.read(ROUND);
    assert.deepEqual(await archive.last(1), report === undefined ? [] : [report]);
    if (report === undefined) return 'left out';
    const outcome = outcomeOf(report);
    if (outcome !== undefined) {
      const { fit } = calibrate(NO_CALIBRATION, outcome);
      assert.equal(typeof correct(50, fit), 'number');
    }
    assert.ok(roundText(report).length > 0);
    const svg = timelineSvg(report);
    assert.ok(!/<script|<foreign|\son\w+=/i.test(svg.replaceAll(/&[a-z]+;/g, '')), svg);
    return outcome === undefined ? 'told' : 'learned from';
  },
};
