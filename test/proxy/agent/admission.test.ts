/** What a round may take, to the byte: epochs, spares and the store's files are real. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundAdmission } from '../../../proxy/agent/admission.ts';
import { type ClusterConfig, parseClusterConfig } from '../../../proxy/config.ts';
import { Catalogue, occupiedBytes, spareDirectory } from '../../../shadow/index.ts';
import { PAGE, PAGES, sealEpoch } from '../../shadow/durable/sealed-epoch.ts';
import { scratchFolder } from '../../support/scratch.ts';

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

/** Of the blocks that sealed epochs have. */
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

test('spares that a round takes over are no more than it has images', async () => {
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

test.run();
