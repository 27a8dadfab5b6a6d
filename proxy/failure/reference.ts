/** The operator's reference of codes, as Markdown (CODES.md). PURE. */
import { CATALOGUE } from './catalogue.ts';

const HEAD = `# Codes

Every failure that Umbra reports carries one of these codes: in \`--json\`, in reports, and in
answers of the API, with the status given here. The message says what was seen; the hint says what
to do next.

Printed from the tables in the sources by \`npm run reference\`.
`;

/** Returns CODES.md. */
export function codesReference(): string {
  const chapters = Object.entries(CATALOGUE).map(([subject, table]) => {
    const rows = Object.entries(table).map(([code, { meaning, status = 409, hint = '' }]) => {
      return `| \`${code}\` | ${status} | ${cell(meaning)} | ${cell(hint)} |`;
    });
    return [
      `## ${subject}\n`,
      '| code | status | meaning | what to do |',
      '|---|---|---|---|',
      ...rows,
    ].join('\n');
  });
  return `${[HEAD, ...chapters].join('\n')}\n`
    .replaceAll('\n## ', '\n\n## ')
    .replaceAll(/\n{3,}/g, '\n\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
