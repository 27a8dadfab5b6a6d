/**
 * Writes what is printed from the sources. Tests fail while one of these files is another.
 *
 *     node --import tsx tools/reference/main.ts
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codesReference } from '../../proxy/failure/reference.ts';
import { packageFolder } from '../../proxy/host/program.ts';
import { openApi } from './openapi.ts';

writeFileSync(join(packageFolder(), 'proxy/failure/CODES.md'), codesReference());
writeFileSync(join(packageFolder(), 'proxy/protocol/openapi.json'), await openApi());
