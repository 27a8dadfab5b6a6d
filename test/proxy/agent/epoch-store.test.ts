/** The folder of a round, from its beginning. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EpochStore } from '../../../proxy/agent/epoch-store.ts';
import { HeldRounds } from '../../../proxy/agent/held-rounds.ts';
import type { ClusterConfig } from '../../../proxy/config.ts';
import { toFailure } from '../../../proxy/failure.ts';
import { Catalogue } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const ROUND = 'r000001-00000000';

const test = suite('epoch store');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-epoch-store-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function storeOf(held: HeldRounds): EpochStore {
  const shadowsDirectory = join(root, 'shadows');
  const members = [{ name: 'a' }, { name: 'b' }];
  const config = { cluster: 'demo', members, shadowsDirectory } as unknown as ClusterConfig;
  return new EpochStore(config, new Catalogue(join(root, 'epochs'), 'demo'), held);
}

test('a round holds its folder until its last member has left', async () => {
  mkdirSync(join(root, 'shadows'));
  const held = new HeldRounds();
  await storeOf(held).beginRound(ROUND);
  held.release(ROUND);
  assert.equal(held.names, [ROUND]);
  held.release(ROUND);
  assert.equal(held.names, []);
});

test('one whose folder cannot be made holds nothing, and says which', async () => {
  const held = new HeldRounds();
  try {
    await storeOf(held).beginRound(ROUND);
    assert.unreachable();
  } catch (error) {
    const { code, message, hint } = toFailure(error, {});
    assert.is(code, 'E_STORE_IO');
    assert.match(message, join(root, 'shadows', ROUND));
    assert.match(message, 'ENOENT');
    assert.ok(hint);
  }
  assert.equal(held.names, []);
});

test.run();
