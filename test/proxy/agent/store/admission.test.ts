/** The memory a round may take, to the byte: epochs, spares and the store's files are real. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundAdmission } from '../../../../proxy/agent/store/admission.ts';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import type { ClusterConfig } from '../../../../proxy/protocol/cluster.ts';
import { Catalogue, occupiedBytes, spareDirectory } from '../../../../shadow/index.ts';
import { PAGE, PAGES, roundOf, sealEpoch } from '../../../shadow/durable/sealed-epoch.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const MEBIBYTE = 2 ** 20;
const BUDGET = 1024 * MEBIBYTE;

const test = suite('admission');
let root = '';
let config: ClusterConfig;
let catalogue: Catalogue;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-admission-'));
  const store = { budget: `${BUDGET}B`, headroom: '0B' };
  const text = JSON.stringify({ cluster: 'demo', members: [{ name: 'a', qmp: 'a.sock' }], store });
  config = parseClusterConfig(text, '/etc/cluster.yaml', root);
  catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  mkdirSync(config.shadowsDirectory, { recursive: true });
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** The answers of proxies for VMs with the blocks that sealed epochs have. */
const EXAMINED = new Map([
  [
    'a',
    {
      shadowBytes: (PAGES + 16) * PAGE,
      blockBytes: [PAGES * PAGE, 16 * PAGE],
      qemuVersion: '10.0.2',
    },
  ],
]);

test('a round takes over no more spares than it has images', async () => {
  const { shadowsDirectory, round } = config;
  await catalogue.publish(await sealEpoch(shadowsDirectory, 1, ['a']));
  const epochs = await occupiedBytes(shadowsDirectory);
  const spares = spareDirectory(shadowsDirectory);
  mkdirSync(spares);
  for (let at = 0; at < 9; at++) {
    writeFileSync(join(spares, `delta-${8 * PAGE}-${at}.img`), Buffer.alloc(8 * PAGE, 1));
  }
  const { neededBytes, freeBytes } = await new RoundAdmission(config, catalogue).admit(
    EXAMINED,
    [],
  );
  assert.is(neededBytes, ((PAGES + 16) * PAGE) / 8);
  assert.is(freeBytes, BUDGET - epochs - neededBytes - round.inFlightBytes);
  // The other block is expected to take two pages.
  assert.is((await occupiedBytes(spares)) / PAGE, 8);
});

test('memory granted to a fold and not yet taken is not given to a round', async () => {
  const { shadowsDirectory } = config;
  await catalogue.publish(await sealEpoch(shadowsDirectory, 1, ['a']));
  const admission = new RoundAdmission(config, catalogue);
  const free = async () => (await admission.admit(EXAMINED, [])).freeBytes;
  const before = await free();
  const folder = join(shadowsDirectory, roundOf(9), 'a');
  await admission.admitFold(new Map([[folder, 10 * MEBIBYTE]]));
  assert.is(await free(), before - 10 * MEBIBYTE);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'ram-0.img'), Buffer.alloc(4 * MEBIBYTE, 1));
  assert.is(await free(), before - 10 * MEBIBYTE, 'what it has taken counts once');
  admission.endFold(folder);
  assert.is(await free(), before - 4 * MEBIBYTE);
});

test('a round is refused memory owed to a fold, but not for ever', async () => {
  const { shadowsDirectory } = config;
  await catalogue.publish(await sealEpoch(shadowsDirectory, 1, ['a']));
  const admission = new RoundAdmission(config, catalogue);
  const { freeBytes, neededBytes } = await admission.admit(EXAMINED, []);
  const folder = join(shadowsDirectory, roundOf(9), 'a');
  await admission.admitFold(new Map([[folder, freeBytes + neededBytes]]));
  const { code, missingBytes } = await admission.admit(EXAMINED, []).then(
    () => assert.unreachable('it was admitted') as never,
    (error: unknown) => toFailure(error, {}),
  );
  assert.equal([code, missingBytes], ['E_BUDGET', neededBytes]);
  const another = admission.admitFold(new Map([[`${folder}b`, PAGE]]));
  assert.is(await another.catch(({ code }) => code), 'E_BUDGET');
  admission.endFold(folder);
  assert.is((await admission.admit(EXAMINED, [])).freeBytes, freeBytes);
});

test('nor is it given to a round that needs more than expected', async () => {
  const { shadowsDirectory } = config;
  await catalogue.publish(await sealEpoch(shadowsDirectory, 1, ['a']));
  const admission = new RoundAdmission(config, catalogue);
  const { freeBytes, neededBytes } = await admission.admit(EXAMINED, []);
  const most = (PAGES + 16) * PAGE - neededBytes;
  assert.is(admission.planOf('a')?.moreBytes, most);
  const folder = join(shadowsDirectory, roundOf(9), 'a');
  await admission.admitFold(new Map([[folder, freeBytes - PAGE]]));
  await admission.admit(EXAMINED, []);
  assert.is(admission.planOf('a')?.moreBytes, PAGE);
});

test.run();
