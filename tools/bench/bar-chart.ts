/** Medians as bars, ranges as whiskers. PURE: rows in, SVG text out. */
import type { Row } from './bench.ts';

const WIDTH = 760;
const LEFT = 270;
const RIGHT = 90;
const LANE = 30;
const TOP = 44;

export function barChart(title: string, rows: readonly Row[]): string {
  const most = rows.reduce((max, { spread }) => Math.max(max, spread.max), 0) || 1;
  const scale = (WIDTH - LEFT - RIGHT) / most;
  const lanes = rows.map(({ what, unit, spread: { median, min, max } }, index) => {
    const y = TOP + index * LANE;
    const middle = y + LANE / 2 - 4;
    const at = (value: number) => (LEFT + value * scale).toFixed(1);
    const width = (median * scale).toFixed(1);
    const label = what.replace(`${title}, `, '').replaceAll('&', '&amp;');
    return [
      `<text x="12" y="${y + 14}">${label}</text>`,
      `<rect x="${LEFT}" y="${y}" width="${width}" height="18" fill="#2f7d4f"/>`,
      `<line x1="${at(min)}" x2="${at(max)}" y1="${middle}" y2="${middle}" stroke="#222"/>`,
      `<text x="${Number(at(max)) + 6}" y="${y + 14}">${round(median)} ${unit}</text>`,
    ].join('\n');
  });
  const height = TOP + rows.length * LANE + 12;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      'font-family="sans-serif" font-size="12">',
    '<rect width="100%" height="100%" fill="white"/>',
    `<text x="12" y="22" font-size="14" font-weight="bold">${title}: median and range</text>`,
    ...lanes,
    '</svg>',
    '',
  ].join('\n');
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
