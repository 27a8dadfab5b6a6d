/**
 * Writes the parts of documents that are made from the sources (documents.ts).
 *
 *     npm run reference
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { codesReference } from '../../proxy/failure/reference.ts';
import { DOCUMENTS, withPart } from './documents.ts';
import { openApi } from './openapi.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

writeFileSync(join(ROOT, 'proxy/failure/CODES.md'), codesReference());
writeFileSync(join(ROOT, 'proxy/protocol/openapi.json'), await openApi());
for (const { file, marker, part } of DOCUMENTS) {
  const path = join(ROOT, file);
  const before = readFileSync(path, 'utf8');
  const after = withPart(before, marker, part());
  if (after === before) continue;
  writeFileSync(path, after);
  process.stdout.write(`${file} is written\n`);
}
