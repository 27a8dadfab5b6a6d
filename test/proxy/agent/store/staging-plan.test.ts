import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  planStaging,
  type StagingPlan,
  shareOf,
} from '../../../../proxy/agent/store/staging-plan.ts';
import { openShadow, type SealedShadow, StagingShadow } from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { SEAL_INPUT } from '../../../support/seal-input.ts';

const PAGE = 4096;
const PAGES = 8;
const RAM = 1024 * 2 ** 20;

const test = suite('staging plan');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-plan-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

async function shadow(round: string, byte: number, base?: SealedShadow): Promise<SealedShadow> {
  const location = { directory: join(root, round, 'a'), member: 'a', round };
  const layout = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
  const options = { reservedBytes: 0, moreBytes: PAGES * PAGE, headroomBytes: 0 };
  const staged = await StagingShadow.reserve(location, layout, PAGE, base && { base, ...options });
  const [ram] = staged.match([{ idstr: 'pc.ram', usedLength: PAGES * PAGE }]);
  for (let page = 0; page < PAGES; page++) ram?.writePage(page * PAGE, Buffer.alloc(PAGE, byte), 0);
  await staged.seal(SEAL_INPUT);
  return openShadow(location.directory);
}

test('without an epoch, all of RAM is reserved', async () => {
  const plan = await planStaging('a', RAM, undefined);
  assert.equal(plan, {
    member: 'a',
    ramBytes: RAM,
    admittedBytes: RAM,
    base: undefined,
    parent: undefined,
  });
});

test('after a whole epoch, an eighth of RAM is reserved; that epoch is the base', async () => {
  const whole = await shadow('r1', 1);
  const { admittedBytes, base } = await planStaging('a', RAM, whole);
  assert.is(admittedBytes, RAM / 8);
  assert.is(base?.sha256, whole.sha256);
});

test('what was written since is stored against the newest shadow, whatever that is', async () => {
  const whole = await shadow('r1', 1);
  const delta = await shadow('r2', 2, whole);
  const { directory, sha256 } = delta;
  assert.equal((await planStaging('a', RAM, delta)).parent, { directory, sha256, cut: 'r2' });
  appendFileSync(join(delta.directory, 'ram-0.delta'), 'x');
  assert.is((await planStaging('a', RAM, delta)).parent, undefined);
});

test('after a delta, its size and a margin are reserved; its base stays the base', async () => {
  const whole = await shadow('r1', 1);
  const delta = await shadow('r2', 2, whole);
  const { admittedBytes, base } = await planStaging('a', RAM, delta);
  assert.is(admittedBytes, PAGES * PAGE * 1.25 + 16 * 2 ** 20);
  assert.is(base?.sha256, whole.sha256);
});

test('never more than RAM', async () => {
  const delta = await shadow('r2', 2, await shadow('r1', 1));
  assert.is((await planStaging('a', 10 * PAGE, delta)).admittedBytes, 10 * PAGE);
});

test('a base that was touched is not used', async () => {
  const whole = await shadow('r1', 1);
  appendFileSync(join(whole.directory, 'ram-0.img'), 'x');
  const { base, admittedBytes } = await planStaging('a', RAM, whole);
  assert.is(base, undefined);
  assert.is(admittedBytes, RAM);
});

test('free memory is shared among deltas by RAM, each up to what it can use', () => {
  const base = { directory: '', sha256: '' };
  const small: StagingPlan = {
    member: 'a',
    ramBytes: 100,
    admittedBytes: 20,
    base,
    parent: undefined,
  };
  const large: StagingPlan = {
    member: 'b',
    ramBytes: 300,
    admittedBytes: 20,
    base,
    parent: undefined,
  };
  const whole: StagingPlan = { ...large, member: 'c', base: undefined };
  const all = [small, large, whole];
  assert.equal(
    all.map((plan) => shareOf(plan, all, 200)),
    [50, 150, 0],
  );
  assert.equal(
    all.map((plan) => shareOf(plan, all, Number.POSITIVE_INFINITY)),
    [80, 280, 0],
  );
  assert.equal(
    all.map((plan) => shareOf(plan, all, -5)),
    [0, 0, 0],
  );
});

test.run();
