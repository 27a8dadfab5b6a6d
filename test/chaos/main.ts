/**
 * The kill matrix, on real processes:
 *
 *     npm run chaos                                  every row; minutes
 *     npm run chaos -- --only 'member/n0/stopped'    rows whose name contains this
 *     npm run chaos -- --results FILE                continues where FILE ends
 *     npm run chaos -- --json                        ends with one line of JSON
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Command } from 'commander';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { ChaosBed } from './bed.ts';
import { Judge, type Judgement } from './judge.ts';
import { RelayBed } from './relay-bed.ts';
import { allRows, type ChaosRow } from './rows.ts';
import { table } from './table.ts';

interface Options {
  readonly only?: string;
  readonly results?: string;
  readonly qemu?: string;
  readonly json?: boolean;
}

const options = new Command('chaos')
  .option('--only <words>', 'rows whose name contains them')
  .option('--results <file>', 'results of rows that are done; new ones are appended')
  .option('--qemu <version>', 'which QEMU, by the beginning of its version; the newest')
  .option('--json', 'end with one line of JSON')
  .parse()
  .opts<Options>();

const done = new Map(readResults(options.results).map((one) => [one.row, one]));
const qemu = await chooseQemu(options.qemu);
const rows = allRows().filter(({ name, bed }) => name.includes(options.only ?? '') && canHave(bed));
say(`${rows.length} rows on QEMU ${qemu.version}, ${done.size} done before`);
for (const group of groupsOf(rows.filter(({ name }) => !done.has(name)))) await runGroup(group);
for (const line of table(rows, done)) say(line);
const judged = rows.flatMap(({ name }) => done.get(name) ?? []);
const red = judged.filter(({ colour }) => colour === 'red');
const green = judged.filter(({ colour }) => colour === 'green').length;
const passedBy = judged.length - green - red.length;
say(`${green} green, ${red.length} red, ${passedBy} passed by (no process came to the place)`);
for (const { row, why } of red) say(`RED ${row}: ${why}`);
const missed = judged.reduce((sum, { missedPages = 0 }) => sum + missedPages, 0);
say(`${missed} dirtied pages that QEMU had missed were mended (without KVM, by precopy)`);
if (options.json === true) {
  say(JSON.stringify({ rows: judged.length - passedBy, green, red: red.map(({ row }) => row) }));
}
// A row whose place no process reached shows nothing, and neither does an empty run.
process.exitCode = red.length === 0 && passedBy === 0 && green > 0 ? 0 : 1;

/**
 * Returns whether QEMU supports the cluster. Before 9.0 it cannot keep all VMs stopped at the cut.
 */
function canHave(bed: ChaosRow['bed']): boolean {
  return bed !== 'all-stopped' || Number(qemu.version.split('.')[0]) >= 9;
}

/** Groups rows that share a cluster until one of them fails. */
function groupsOf(of: readonly ChaosRow[]): ChaosRow[][] {
  const groups = new Map<string, ChaosRow[]>();
  for (const row of of) groups.set(row.bed, [...(groups.get(row.bed) ?? []), row]);
  return [...groups.values()];
}

/** Runs rows on one cluster. After a red row it is replaced, for its state cannot be trusted. */
async function runGroup(group: readonly ChaosRow[]): Promise<void> {
  let bed: ChaosBed | RelayBed | undefined;
  let judge: Judge | RelayBed | undefined;
  try {
    for (const row of group) {
      let judgement: Judgement;
      try {
        bed ??= await startBed(row);
        judge ??= bed instanceof RelayBed ? bed : await Judge.of(bed);
        judgement = await judge.judge(row);
      } catch (error) {
        const why = `there is no cluster to judge: ${error}`;
        judgement = { row: row.name, colour: 'red', why, stoodMs: Number.NaN };
      }
      done.set(row.name, judgement);
      if (options.results !== undefined) {
        appendFileSync(options.results, `${JSON.stringify(judgement)}\n`);
      }
      const stood = judgement.stoodMs > 0 ? `, stood for ${Math.round(judgement.stoodMs)} ms` : '';
      const missed =
        (judgement.missedPages ?? 0) > 0 ? `, ${judgement.missedPages} pages mended` : '';
      say(`${judgement.colour.padEnd(9)} ${row.name}${stood}${missed} ${judgement.why}`);
      if (judgement.colour !== 'red') continue;
      await bed?.dispose();
      bed = undefined;
      judge = undefined;
    }
  } finally {
    await bed?.dispose();
  }
}

function startBed({ bed }: ChaosRow): Promise<ChaosBed | RelayBed> {
  return bed === 'libvirt' ? RelayBed.start() : ChaosBed.start(bed, qemu);
}

async function chooseQemu(version = ''): Promise<QemuBinary> {
  const found = (await findQemus()).filter((one) => one.version.startsWith(version));
  const newest = found.at(-1);
  if (newest === undefined) throw new Error(`there is no QEMU ${version} here`);
  return newest;
}

function readResults(path: string | undefined): Judgement[] {
  if (path === undefined || !existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Judgement);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
