/**
 * The whole corpus, and for each target as many changed inputs as a fifth of a second allows, at
 * least 30 and at most 200; the same each time. `npm run fuzz` is the long run, and only it is
 * guided by coverage.
 */
import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { fuzz } from './campaign.ts';
import { seedsOf } from './corpus.ts';
import { removeFolders } from './target-folder.ts';
import { loadTarget, TARGET_NAMES } from './targets.ts';

const test = suite('fuzz');
test.after(removeFolders);
/** Number of changed inputs of each target: at least, and at most if there is time. */
const RUNS_MIN = 30;
const RUNS_MAX = 200;
const MOST_MS = 200;
/** Seed with which coverage leads to the planted fault early: after 3,410 inputs. */
const PLANTED_SEED = 7;
/** Inputs among which the fault is not found without coverage: twice as many. */
const PLANTED_RUNS = 7_000;

for (const name of TARGET_NAMES) {
  test(`${name}: every seed, and changed ones`, async () => {
    const target = await loadTarget(name);
    const seeds = seedsOf(name);
    assert.ok(seeds.length > 0);
    const until = performance.now() + MOST_MS;
    const goesOn = (runs: number): boolean =>
      runs < seeds.length + (performance.now() < until ? RUNS_MAX : RUNS_MIN);
    const inputs = seeds.map(({ input }) => input);
    const { finding, outcomes, runs } = await fuzz(target, inputs, { seed: 1, goesOn });
    const [seed] = seeds.filter(({ input }) => input === finding?.input);
    assert.equal(finding?.error, undefined, seed && `seed ${seed.name}`);
    assert.ok(
      runs >= seeds.length + RUNS_MIN && outcomes.size > 1,
      'too few inputs, or all with the same outcome',
    );
  });
}

/** Runs `npm run fuzz --` with these arguments. */
function command(...words: string[]) {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  return spawnSync(process.execPath, ['--import', 'tsx', main, ...words], { encoding: 'utf8' });
}

test('coverage leads to a planted fault, which is shrunk, saved, and shown again', () => {
  const seed = String(PLANTED_SEED);
  const { status, stdout } = command('--target', 'planted', '--seconds', '60', '--seed', seed);
  assert.equal(status, 1, stdout);
  const [, file = ''] = /npm run fuzz -- --target planted --input (\S+)/.exec(stdout) ?? [];
  try {
    assert.equal(readFileSync(file).toString('hex'), '10207e40');
    const again = command('--target', 'planted', '--input', file);
    assert.equal(again.status, 1);
    assert.match(again.stdout, /Error: found/);
  } finally {
    rmSync(file, { force: true });
  }
});

test('the same seed tries the same inputs, and without coverage finds no fault', async () => {
  const target = await loadTarget('planted');
  const tried = async (seed: number): Promise<string[]> => {
    const inputs: string[] = [];
    const onInput = (input: Buffer): unknown => inputs.push(input.toString('hex'));
    const goesOn = (runs: number): boolean => runs < PLANTED_RUNS;
    const options = { seed, goesOn, onInput };
    const { finding } = await fuzz(target, [Buffer.from('........')], options);
    assert.equal(finding, undefined);
    return inputs;
  };
  const once = await tried(PLANTED_SEED);
  assert.deepEqual(await tried(PLANTED_SEED), once);
  assert.notDeepEqual(await tried(PLANTED_SEED + 1), once);
});

test.run();
