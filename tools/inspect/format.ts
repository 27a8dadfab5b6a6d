/** A report as text for people. */
import type { StreamReport } from './inspect.ts';

/** Runs of RAM PARTs are shown as one line. */
export function formatReport(report: StreamReport): string {
  const { counters } = report;
  const lines = [
    `machine   ${report.machineType || '(no CONFIGURATION)'}, pages of ${report.pageSize} bytes`,
    `stream    ${counters.bytes} bytes, ${report.phase}`,
  ];
  if (report.error !== undefined)
    lines.push(`refused   ${report.error.code}: ${report.error.message}`);
  lines.push('', 'SECTIONS', ...table(['offset', 'section'], sectionRows(report)));
  const blocks = report.blocks.map(({ idstr, usedLength, pages, zeroPages, guestAddress }) => [
    idstr,
    usedLength,
    pages,
    zeroPages,
    guestAddress ?? '',
  ]);
  lines.push('', 'RAM BLOCKS');
  lines.push(...table(['idstr', 'bytes', 'pages', 'zero', 'address'], blocks));
  lines.push('', 'ITEMS');
  const items = Object.entries(counters).filter(([name]) => name !== 'bytes');
  lines.push(...table(['kind', 'count'], items));
  lines.push('', `DEVICES   ${deviceSummary(report)}`);
  const devices = report.devices.map(
    ({ name, instanceId, sectionId, versionId, offset, length }) => [
      name,
      instanceId,
      sectionId,
      versionId,
      offset,
      length,
    ],
  );
  lines.push(...table(['name', 'instance', 'id', 'version', 'offset', 'bytes'], devices));
  return `${lines.join('\n')}\n`;
}

function sectionRows(report: StreamReport): [number, string][] {
  const rows: { offset: number; name: string; count: number }[] = [];
  for (const { name, offset } of report.sections) {
    const last = rows.at(-1);
    if (last?.name === name) last.count++;
    else rows.push({ offset, name, count: 1 });
  }
  const more = report.sectionCount - report.sections.length;
  if (more > 0) rows.push({ offset: Number.NaN, name: '… more', count: more });
  return rows.map(({ offset, name, count }) => [offset, count > 1 ? `${name} × ${count}` : name]);
}

function deviceSummary(report: StreamReport): string {
  if (report.deviceStateBytes === undefined) return 'not reached';
  const state = `${report.deviceStateBytes} bytes`;
  if (report.vmdescBytes === undefined) return `${state}, not described (no VMDESC)`;
  const walk = report.devicesExact ? 'walked to the end' : 'the description does not fit';
  return `${state}, described by ${report.vmdescBytes} bytes: ${walk}`;
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
