/** Epochs of a relay's store, chosen for members of a cluster. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseRelayed } from '../../../../proxy/coordinator/restores/relayed.ts';
import { RELAY_CLUSTER } from '../../../../proxy/protocol/relay.ts';
import { Catalogue, makeEpochManifest } from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const test = suite('relayed epochs');
const SHA = 'a'.repeat(64);
let store = '';
let catalogue: Catalogue;

test.before.each(async () => {
  store = mkdtempSync(join(scratchFolder(), 'umbra-relayed-'));
  catalogue = new Catalogue(join(store, 'epochs'), RELAY_CLUSTER);
  await catalogue.prepare();
  for (const [at, name] of ['a', 'b', 'a'].entries()) await publish(at + 1, name);
});
test.after.each(() => rmSync(store, { recursive: true, force: true }));

async function publish(epoch: number, name: string): Promise<void> {
  const members = [{ name, shadow: SHA }];
  const round = `r00000${epoch}-0123abcd`;
  const createdAt = '2026-01-01T00:00:00.000Z';
  await catalogue.publish(
    makeEpochManifest({ cluster: RELAY_CLUSTER, epoch, round, createdAt, members }),
  );
}

function choose(epoch: number | undefined, member: string | undefined, members: readonly string[]) {
  return chooseRelayed({ store, epoch, member, xml: undefined }, join(store, 'epochs'), members);
}

async function codeOf(choice: Promise<unknown>): Promise<string> {
  const error = await choice.then(
    () => undefined,
    (cause: unknown) => cause as { readonly code: string },
  );
  return error?.code ?? 'chosen';
}

test('the member of the VM’s name, or the one that is named', async () => {
  const own = await choose(2, undefined, ['a', 'b']);
  assert.equal([own.manifest.members[0]?.name, own.origin.vm], ['b', 'b']);
  const named = await choose(2, 'web', ['web']);
  assert.equal([named.manifest.members[0]?.name, named.origin.vm], ['web', 'b']);
  assert.is(await codeOf(choose(2, undefined, ['web'])), 'E_MEMBER_UNKNOWN');
  assert.is(await codeOf(choose(2, 'other', ['web'])), 'E_MEMBER_UNKNOWN');
});

test('without a number, the newest of a VM that is a member', async () => {
  assert.is((await choose(undefined, undefined, ['a', 'b'])).manifest.epoch, 3);
  assert.is((await choose(undefined, 'b', ['a', 'b'])).manifest.epoch, 2);
  assert.is(await codeOf(choose(undefined, undefined, ['c'])), 'E_EPOCH_UNKNOWN');
});

test('an epoch that the relay keeps no longer is told before its VM resumes', async () => {
  const { require } = await choose(1, undefined, ['a']);
  await require();
  await catalogue.retire(1);
  assert.is(await codeOf(require()), 'E_EPOCH_UNKNOWN');
});

test('what is no store, or may be written by others, is refused', async () => {
  assert.is(
    await codeOf(
      chooseRelayed({ store, epoch: 1, member: 'a', xml: undefined }, '/nowhere', ['a']),
    ),
    'E_RELAY_STORE',
  );
  chmodSync(store, 0o777);
  assert.is(await codeOf(choose(1, undefined, ['a'])), 'E_FOLDER_UNSAFE');
});

test.run();
