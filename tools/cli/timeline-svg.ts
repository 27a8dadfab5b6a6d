/**
 * A round as a picture: one lane a member, time from left to right. PURE: report in, SVG text out.
 *
 *     n0  ████░░░░████▒▓      the live phase above, and below, enlarged, the moment all stood
 *     n1  ████████████▒▒
 */
import type { MemberReport, RoundReport, Span } from '../../proxy/protocol/report.ts';
import { bytes, duration } from './output.ts';

const WIDTH = 960;
const LEFT = 150;
const RIGHT = 20;
const LANE = 22;
const BAR = 14;
const TOP = 64;
const GAP = 56;
const TICKS = 6;

const COLORS: Readonly<Record<Span['state'], string>> = {
  live: '#2f7d4f',
  held: '#c9d8ce',
  stopped: '#c0392b',
  drained: '#e8a87c',
  saving: '#4a7fb5',
};
const MEANING: Readonly<Record<Span['state'], string>> = {
  live: 'live: runs and streams',
  held: 'held: runs, unread',
  stopped: 'stopped: sends the rest',
  drained: 'drained: waits to be resumed',
  saving: 'saving: runs, and is saved',
};

interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

export function timelineSvg(report: RoundReport): string {
  const { members } = report;
  const spans = members.flatMap(({ timeline }) => timeline);
  const standing = spans.filter(({ state }) => state === 'stopped' || state === 'drained');
  const whole = windowOf(spans);
  const parts: string[] = [];
  let y = TOP;
  const panel = (title: string, window: Window) => {
    parts.push(panelOf(title, window, members, y));
    y += members.length * LANE + GAP;
  };
  if (whole !== undefined) panel('the whole round', whole);
  const stop = windowOf(standing);
  if (stop !== undefined) panel('the stop, enlarged', stop);
  const height = y + 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text(12, 20, headline(report), 'font-size="14" font-weight="bold"'),
    text(12, 38, escapeXml(report.endReason ?? report.failure?.message ?? ''), 'fill="#555"'),
    legend(),
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function headline({ round, epoch, failure, clusterDowntimeMs, streamBytes }: RoundReport): string {
  const outcome = failure === undefined ? `epoch ${epoch}` : `aborted (${failure.code})`;
  const downtime = `cluster downtime ${duration(clusterDowntimeMs)}`;
  return escapeXml(`${round}: ${outcome}, ${downtime}, ${bytes(streamBytes)} streamed`);
}

function legend(): string {
  return (Object.keys(COLORS) as Span['state'][])
    .map((state, index) => {
      const x = 12 + index * 188;
      return (
        `<rect x="${x}" y="46" width="10" height="10" fill="${COLORS[state]}"/>` +
        text(x + 16, 55, MEANING[state])
      );
    })
    .join('\n');
}

function panelOf(
  title: string,
  window: Window,
  members: readonly MemberReport[],
  top: number,
): string {
  const plot = WIDTH - LEFT - RIGHT;
  const scale = plot / Math.max(0.001, window.toMs - window.fromMs);
  const at = (ms: number) => LEFT + Math.min(plot, Math.max(0, (ms - window.fromMs) * scale));
  const bottom = top + 18 + members.length * LANE;
  const ticks = Array.from({ length: TICKS + 1 }, (_, index) => {
    const ms = window.fromMs + ((window.toMs - window.fromMs) * index) / TICKS;
    const x = at(ms).toFixed(1);
    return (
      `<line x1="${x}" x2="${x}" y1="${top + 14}" y2="${bottom}" stroke="#ddd"/>` +
      text(Number(x), bottom + 14, duration(ms - window.fromMs), 'text-anchor="middle" fill="#555"')
    );
  });
  const lanes = members.map((member, index) => {
    const y = top + 18 + index * LANE;
    const label = text(12, y + 11, escapeXml(`${member.member}  ${duration(member.downtimeMs)}`));
    const bars = member.timeline
      .filter(({ fromMs, toMs }) => toMs >= window.fromMs && fromMs <= window.toMs)
      .map((span) => barOf(span, at, y));
    return [label, ...bars].join('\n');
  });
  return [text(12, top + 8, title, 'fill="#555"'), ...ticks, ...lanes].join('\n');
}

function barOf({ state, fromMs, toMs }: Span, at: (ms: number) => number, y: number): string {
  const x = at(fromMs);
  // However short it was, it can be seen.
  const width = Math.max(0.5, at(toMs) - x);
  return (
    `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" ` +
    `fill="${COLORS[state]}"><title>${state} ${duration(toMs - fromMs)}</title></rect>`
  );
}

function windowOf(spans: readonly Span[]): Window | undefined {
  if (spans.length === 0) return undefined;
  const fromMs = spans.reduce((least, span) => Math.min(least, span.fromMs), Infinity);
  const toMs = spans.reduce((most, span) => Math.max(most, span.toMs), -Infinity);
  return { fromMs, toMs };
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x}" y="${y}" ${more}>${content}</text>`;
}

function escapeXml(raw: string): string {
  return raw.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
