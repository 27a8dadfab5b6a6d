/**
 * Checks the rules of the house that biome does not know: prose.ts and glossary.ts.
 *
 *     node --import tsx tools/lint/main.ts            every source and test file
 *     node --import tsx tools/lint/main.ts PATH …     those below
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { checkGlossary } from './glossary.ts';
import { checkProse } from './prose.ts';

const AREAS = ['proxy', 'qmp', 'shadow', 'policies', 'tools', 'test'];
/** Files that hold the banned words as data. */
const DATA = /(^|\/)(tools|test\/tools)\/lint\/|\/corpus\/|(^|\/)protocol\/renamed(\.test)?\.ts$/;

const given = process.argv.slice(2);
const files = (given.length > 0 ? given : AREAS)
  .flatMap((path) =>
    statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true, encoding: 'utf8' }).map((file) => join(path, file)),
  )
  .filter((file) => file.endsWith('.ts') && !DATA.test(file))
  .sort();

let found = 0;
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  for (const { line, rule, message } of [...checkProse(text), ...checkGlossary(file, text)]) {
    found++;
    process.stdout.write(`${file}:${line} ${rule}: ${message}\n`);
  }
}
process.stdout.write(`${files.length} files, ${found} findings\n`);
process.exitCode = found > 0 ? 1 : 0;
