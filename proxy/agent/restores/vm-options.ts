/** The options of a VM: those of its command line, and those of files that it names. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { configFiles, parseConfig } from '../../command-line/config-file.ts';
import type { VmOptions } from '../../command-line/map-obstacle.ts';
import { optionsOf } from '../../command-line/option-list.ts';

/** Reads the options. A file that is gone has none: to start without it is refused elsewhere. */
export function vmOptions(commandLine: readonly string[], workingDirectory: string): VmOptions {
  const given = optionsOf(commandLine);
  const fromFiles = configFiles(commandLine).flatMap((path) => {
    try {
      return parseConfig(readFileSync(resolve(workingDirectory, path), 'utf8'));
    } catch {
      return [];
    }
  });
  return { given, fromFiles };
}
