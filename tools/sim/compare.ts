/**
 *     npm run compare -- [--seeds 1000] [--bound 2] [--json]
 *
 * Multiplexing policies side by side on uneven clusters of 4 to 16 members on one host. Less is
 * better in every figure; a ratio below 1 speaks for the policy that is named first. Each end
 * condition is simulated in a process of its own.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { table } from '../cli/output.ts';
import { unevenCluster } from './clusters.ts';
import {
  CONDITIONS,
  compareRuns,
  endings,
  FIGURES,
  MULTIPLEXINGS,
  measure,
  type Ratio,
  type Run,
  spreadOf,
} from './comparison.ts';

const BASELINE = 'parallel';
const POLICIES = ['parallel', 'round-robin', 'finish-together'] as const;
const HEADER = ['POLICY', 'BYTES/RAM', 'DOWNTIME ms', 'LATENCY ms', 'ENDED BY'];
const RATIO_HEADER = ['RATIO', 'BYTES', 'DOWNTIME', 'LATENCY'];

interface Task {
  readonly condition: keyof typeof CONDITIONS;
  readonly seeds: number;
  readonly memoryBound: number;
}

type Runs = ReadonlyMap<string, Run[]>;

if (process.send === undefined) await main();
else process.once('message', (task: Task) => process.send?.(simulateAll(task)));

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '1000' },
      bound: { type: 'string', default: '2' },
      json: { type: 'boolean', default: false },
    },
  });
  const seeds = Number(values.seeds);
  const memoryBound = Number(values.bound);
  if (!(seeds >= 1) || !(memoryBound >= 1)) {
    process.stderr.write('usage: compare.ts [--seeds N] [--bound FACTOR] [--json]\n');
    process.exit(2);
  }
  const conditions = Object.keys(CONDITIONS) as Task['condition'][];
  const all = await Promise.all(
    conditions.map((condition) => inProcess({ condition, seeds, memoryBound })),
  );
  const summaries: Record<string, unknown> = { seeds, memoryBound };
  for (const [index, condition] of conditions.entries()) {
    const runs = all[index] ?? new Map();
    summaries[condition] = Object.fromEntries(POLICIES.map((one) => [one, summary(runs, one)]));
    if (!values.json) print(`${condition}, ${seeds} seeds, memory bound ${memoryBound}`, runs);
  }
  if (values.json) process.stdout.write(`${JSON.stringify(summaries)}\n`);
}

async function inProcess(task: Task): Promise<Runs> {
  const child = fork(fileURLToPath(import.meta.url), { serialization: 'advanced' });
  child.send(task);
  const died = once(child, 'exit').then(() => {
    throw new Error(`the simulation of ${task.condition} died`);
  });
  const [runs] = await Promise.race([once(child, 'message'), died]);
  died.catch(() => {}); // when it is done, it may
  child.disconnect();
  return runs;
}

function simulateAll({ condition, seeds, memoryBound }: Task): Runs {
  const runs = new Map<string, Run[]>(POLICIES.map((policy) => [policy, []]));
  for (let seed = 1; seed <= seeds; seed++) {
    const cluster = unevenCluster(seed);
    for (const policy of POLICIES) {
      const multiplexing = MULTIPLEXINGS[policy];
      const run = measure(cluster, seed, [CONDITIONS[condition]], multiplexing, { memoryBound });
      runs.get(policy)?.push(run);
    }
  }
  return runs;
}

function summary(runs: Runs, policy: string) {
  const own = runs.get(policy) ?? [];
  const figures = FIGURES.map((figure) => {
    return [figure, { ...spreadOf(own, figure), toParallel: ratio(runs, policy, figure) }] as const;
  });
  return { ...Object.fromEntries(figures), endings: Object.fromEntries(endings(own)) };
}

function print(heading: string, runs: Runs): void {
  const rows = POLICIES.map((policy) => {
    const own = runs.get(policy) ?? [];
    const cells = FIGURES.map((figure) => {
      const { median, least, most } = spreadOf(own, figure);
      const digits = figure === 'bytes' ? 3 : 0;
      return `${median.toFixed(digits)} (${least.toFixed(digits)} … ${most.toFixed(digits)})`;
    });
    const ended = [...endings(own)].map(([by, count]) => `${by} ${count}`).join(', ');
    return [policy, ...cells, ended];
  });
  const ratios = POLICIES.filter((policy) => policy !== BASELINE).map((policy) => {
    const cells = FIGURES.map((figure) => text(ratio(runs, policy, figure)));
    return [`${policy} ÷ ${BASELINE}`, ...cells];
  });
  const tables = `${table(HEADER, rows)}\n\n${table(RATIO_HEADER, ratios)}`;
  process.stdout.write(`${heading}\n\n${tables}\n\n\n`);
}

function ratio(runs: Runs, policy: string, figure: (typeof FIGURES)[number]): Ratio {
  return compareRuns(runs.get(policy) ?? [], runs.get(BASELINE) ?? [], figure);
}

function text({ median, better, worse }: Ratio): string {
  const share = (part: number) => `${Math.round(part * 100)} %`;
  return `${median.toFixed(3)}, better in ${share(better)}, worse in ${share(worse)}`;
}
