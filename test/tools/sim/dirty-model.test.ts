import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type DirtyModel,
  distinctPages,
  newlyDirty,
  PAGE_BYTES,
  pageWrites,
  regionsOf,
} from '../../../tools/sim/dirty-model.ts';
import { Random } from '../../../tools/sim/random.ts';

const PAGES = 10_000;
const RATE = 1000 * PAGE_BYTES;
const SET = { bytesPerSecond: RATE, workingSetBytes: 2000 * PAGE_BYTES };
const OTHER = { bytesPerSecond: 3 * RATE, workingSetBytes: 500 * PAGE_BYTES };

const MODELS: readonly DirtyModel[] = [
  { kind: 'idle' },
  { kind: 'uniform', bytesPerSecond: RATE },
  { kind: 'working-set', ...SET },
  { kind: 'phases', first: SET, second: OTHER, phaseMs: 700, offsetMs: 150 },
  { kind: 'bursts', ...SET, offsetMs: 130 },
];

const test = suite('dirty models');

test('a moment dirties as many pages as are written', () => {
  const pages = distinctPages({ kind: 'uniform', bytesPerSecond: RATE }, PAGES, 0, 10);
  assert.ok(Math.abs(pages - 10) < 0.01, `${pages}`);
});

test('an endless interval dirties the working set, and no more', () => {
  for (const [model, most] of [
    [MODELS[0], 0],
    [MODELS[1], PAGES],
    [MODELS[2], 2000],
    [MODELS[3], 2500],
    [MODELS[4], 2000],
  ] as const) {
    if (model === undefined) continue;
    const pages = distinctPages(model, PAGES, 0, 1e6);
    assert.ok(Math.abs(pages - most) < 1, `${model.kind}: ${pages}`);
  }
});

test('the expected number agrees with that of random writes', () => {
  const random = new Random(1);
  const dirty = new Set<number>();
  for (let write = 0; write < 3000; write++) dirty.add(random.integer(0, 1999));
  assert.ok(Math.abs(dirty.size / newlyDirty(2000, 0, 3000) - 1) < 0.03, `${dirty.size}`);
});

for (const model of MODELS) {
  test(`${model.kind}: an interval cut anywhere comes to the same`, () => {
    const whole = regionsOf(model, PAGES).map((pages, region) => {
      return newlyDirty(pages, 0, pageWrites(model, region, 40, 2940));
    });
    for (const cut of [41, 333, 1000, 2500]) {
      for (const [region, pages] of regionsOf(model, PAGES).entries()) {
        const first = newlyDirty(pages, 0, pageWrites(model, region, 40, cut));
        const second = newlyDirty(pages, first, pageWrites(model, region, cut, 2940));
        assert.ok(Math.abs(first + second - (whole[region] ?? 0)) < 1e-6);
      }
    }
  });
}

test('bursts come to the same mean, a quarter of the time', () => {
  const bursts: DirtyModel = { kind: 'bursts', ...SET, offsetMs: 0 };
  assert.is(Math.round(pageWrites(bursts, 0, 0, 10_000)), 10_000);
  assert.is(Math.round(pageWrites(bursts, 0, 0, 250)), 1000);
  assert.is(pageWrites(bursts, 0, 250, 1000), 0);
});

test('phases write to one of two working sets at a time', () => {
  const phases: DirtyModel = {
    kind: 'phases',
    first: SET,
    second: OTHER,
    phaseMs: 1000,
    offsetMs: 0,
  };
  assert.equal([pageWrites(phases, 0, 0, 1000), pageWrites(phases, 1, 0, 1000)], [1000, 0]);
  assert.equal([pageWrites(phases, 0, 1000, 2000), pageWrites(phases, 1, 1000, 2000)], [0, 3000]);
});

test('no region is larger than the memory', () => {
  for (const model of MODELS) {
    const all = regionsOf(model, 1500).reduce((sum, pages) => sum + pages, 0);
    assert.ok(all <= 1500, model.kind);
  }
});

test.run();
