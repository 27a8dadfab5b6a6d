import { stat } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import prettyBytes from 'pretty-bytes';
import { ensureGuestImage } from './image.ts';

/** Runs `npm run guest`: builds the guest image if needed, and prints its files. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { refresh: { type: 'boolean', default: false } } });
  const image = await ensureGuestImage({
    refresh: values.refresh,
    progress: (line) => process.stderr.write(`${line}\n`),
  });
  for (const path of [image.kernel, image.initrd]) {
    process.stdout.write(`${path}  ${prettyBytes((await stat(path)).size)}\n`);
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`guest image: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
