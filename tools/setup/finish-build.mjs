// What the compiler leaves out: the command's permission to be run.
import { chmodSync } from 'node:fs';

chmodSync('dist/tools/cli/main.js', 0o755);
