/** Offers instead of a damaged epoch: a real catalogue, and an agent that verifies by a list. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import { Coordinator } from '../../../../proxy/coordinator/coordinator.ts';
import { type Failure, toFailure } from '../../../../proxy/failure/failure.ts';
import type { Agent } from '../../../../proxy/protocol/agent.ts';
import { Catalogue, makeEpochManifest } from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const TEXT = '{cluster: demo, members: [{name: a, qmp: /x}]}';
const OPTIONS = {
  mode: 'auto',
  replace: false,
  verify: 'changed',
  qemu: 'installed',
  from: 'auto',
  clock: 'keep',
} as const;

const test = suite('epoch choice');
let root = '';
let catalogue: Catalogue;
let coordinator: Coordinator;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-choice-'));
  const config = parseClusterConfig(TEXT, '/etc/cluster.yaml', root);
  mkdirSync(config.directory);
  catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  const agent: Partial<Agent> = { members: ['a'], onNotice: () => {}, verify: async () => {} };
  coordinator = new Coordinator(config, agent as Agent, catalogue, pino({ level: 'silent' }));
});
test.after.each(async () => {
  await coordinator.end();
  rmSync(root, { recursive: true, force: true });
});

async function publish(count: number): Promise<void> {
  for (let epoch = 1; epoch <= count; epoch++) {
    const manifest = makeEpochManifest({
      cluster: 'demo',
      epoch,
      round: `r00000${epoch}-0123abcd`,
      createdAt: '2030-01-01T00:00:00.000Z',
      members: [{ name: 'a', shadow: 'f'.repeat(64) }],
    });
    await catalogue.publish(manifest);
  }
}

function damage(epoch: number): void {
  const path = join(catalogue.directory, `00000${epoch}.json`);
  writeFileSync(path, readFileSync(path, 'utf8').replace('2030', '2031'));
}

async function failureOf(epoch: number | undefined): Promise<Failure> {
  try {
    await coordinator.restore(epoch, OPTIONS, () => {});
  } catch (error) {
    return toFailure(error, {});
  }
  throw new Error('it was restored');
}

for (const wanted of [3, undefined]) {
  test(`a damaged manifest: the previous is offered for ${wanted ?? 'the newest'}`, async () => {
    await publish(3);
    damage(3);
    const { code, hint } = await failureOf(wanted);
    assert.is(code, 'E_MANIFEST_INVALID');
    assert.match(
      hint ?? '',
      'Epoch 3 is damaged; the newest before it that is whole: umbra restore 2',
    );
  });
}

test('if no earlier epoch is whole, the error says so', async () => {
  await publish(2);
  for (const epoch of [1, 2]) damage(epoch);
  assert.match((await failureOf(2)).hint ?? '', 'no other epoch is whole');
});

test('an unknown epoch is not reported as damage', async () => {
  await publish(1);
  assert.is((await failureOf(9)).code, 'E_EPOCH_UNKNOWN');
});

test.run();
