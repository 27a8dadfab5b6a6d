/**
 * Reports of past rounds, one file a round, in the cluster's folder:
 *
 *     rounds/r000004-1a2b3c4d.json     stored-report.ts
 *
 * Operators read them (`umbra report`), and predictions are corrected by them. Nothing depends on
 * them: a report that cannot be read is left out, one that cannot be written is a line in the log.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isRoundName } from '../../../shadow/index.ts';
import type { RoundReport } from '../../protocol/report.ts';
import { readReport, writeReport } from './stored-report.ts';

const KEPT = 50;
const SUFFIX = '.json';

export class RoundArchive {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Adds a report, and removes the oldest beyond fifty. */
  async add(report: RoundReport): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, `${report.round}${SUFFIX}`);
    await writeFile(`${path}.new`, writeReport(report), { mode: 0o600 });
    await rename(`${path}.new`, path);
    const names = await this.names();
    for (const name of names.slice(0, -KEPT)) await rm(join(this.#directory, `${name}${SUFFIX}`));
  }

  /** Lists the rounds there are reports of, in the order they began. */
  async names(): Promise<string[]> {
    const files = await readdir(this.#directory).catch(() => []);
    const rounds = files
      .filter((file) => file.endsWith(SUFFIX))
      .map((file) => file.slice(0, -SUFFIX.length))
      .filter(isRoundName);
    const dated = await Promise.all(
      rounds.map(async (name) => ({ name, at: (await this.read(name))?.startedAt ?? '' })),
    );
    return dated.sort((a, b) => a.at.localeCompare(b.at)).map(({ name }) => name);
  }

  /** Reads the report of a round. @returns undefined if there is none, or it cannot be read */
  async read(round: string): Promise<RoundReport | undefined> {
    if (!isRoundName(round)) return undefined;
    const path = join(this.#directory, `${round}${SUFFIX}`);
    const text = await readFile(path, 'utf8').catch(() => undefined);
    return text === undefined ? undefined : readReport(text);
  }

  /** Reads the last reports, oldest first. */
  async last(count: number): Promise<RoundReport[]> {
    const names = (await this.names()).slice(-count);
    const reports = await Promise.all(names.map((name) => this.read(name)));
    return reports.filter((report) => report !== undefined);
  }
}
