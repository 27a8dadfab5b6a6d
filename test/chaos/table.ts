/** The matrix of results: one line for each place, one column for each victim. PURE. */
import type { Judgement } from './judge.ts';
import type { ChaosRow, Victim } from './rows.ts';

const SIGNS: Readonly<Record<Judgement['colour'], string>> = {
  green: 'green',
  red: 'RED',
  'passed by': '(passed)',
};
const NOT_RUN = '?';
const NOT_IN_IT = '';

/** Returns the matrix as lines of Markdown. */
export function table(
  rows: readonly ChaosRow[],
  judgements: ReadonlyMap<string, Judgement>,
): string[] {
  const victims = [...new Set(rows.map(({ victim }) => victim))];
  const places = new Map<string, Map<Victim, string>>();
  for (const { name, during, bed, location: where, victim } of rows) {
    const key = `${during} (${bed}), ${where}`;
    const line = places.get(key) ?? new Map<Victim, string>();
    const judged = judgements.get(name);
    line.set(victim, judged === undefined ? NOT_RUN : SIGNS[judged.colour]);
    places.set(key, line);
  }
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    line(['', ...victims]),
    line(['---', ...victims.map(() => '---')]),
    ...[...places].map(([location, cells]) => {
      return line([location, ...victims.map((victim) => cells.get(victim) ?? NOT_IN_IT)]);
    }),
  ];
}
