/** Measures over time, one strip each, from zero up. PURE: samples in, SVG text out. */
import { MEASURES, type Sample } from './growth.ts';

const WIDTH = 760;
const LEFT = 130;
const RIGHT = 70;
const STRIP = 84;
const GAP = 26;
const TOP = 40;

export function plot(title: string, samples: readonly Sample[]): string {
  const end = samples.at(-1)?.atMs || 1;
  const x = (atMs: number) => LEFT + (atMs / end) * (WIDTH - LEFT - RIGHT);
  const strips = MEASURES.map((measure, index) => {
    const most = Math.max(1, ...samples.map((sample) => sample[measure])) * 1.1;
    const bottom = TOP + index * (STRIP + GAP) + STRIP;
    const y = (value: number) => bottom - (value / most) * STRIP;
    const points = samples.map(
      (sample) => `${x(sample.atMs).toFixed(1)},${y(sample[measure]).toFixed(1)}`,
    );
    const last = samples.at(-1)?.[measure] ?? 0;
    return [
      `<text x="12" y="${bottom - STRIP / 2}">${measure}</text>`,
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${bottom}" y2="${bottom}" stroke="#999"/>`,
      `<polyline points="${points.join(' ')}" fill="none" stroke="#2f7d4f" stroke-width="1.5"/>`,
      `<text x="${WIDTH - RIGHT + 6}" y="${y(last) + 4}">${last.toFixed(0)}</text>`,
    ].join('\n');
  });
  const height = TOP + MEASURES.length * (STRIP + GAP) + 14;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      'font-family="sans-serif" font-size="12">',
    '<rect width="100%" height="100%" fill="white"/>',
    `<text x="12" y="22" font-size="14" font-weight="bold">${title}</text>`,
    ...strips,
    `<text x="${LEFT}" y="${height - 6}">0 to ${(end / 60_000).toFixed(1)} minutes</text>`,
    '</svg>',
    '',
  ].join('\n');
}
