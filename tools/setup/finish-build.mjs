// What the compiler leaves out of the package: the guest's own files, and the command's permission.
import { chmodSync, cpSync } from 'node:fs';

for (const folder of ['tools/guest/root', 'tools/guest/src']) {
  cpSync(folder, `dist/${folder}`, { recursive: true });
}
chmodSync('dist/tools/cli/main.js', 0o755);
