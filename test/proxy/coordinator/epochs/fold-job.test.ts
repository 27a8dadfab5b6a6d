/** Folds that succeed, wait and fail; files and store are real. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundAdmission } from '../../../../proxy/agent/store/admission.ts';
import { RoundsInUse } from '../../../../proxy/agent/store/rounds-in-use.ts';
import { ShadowStore } from '../../../../proxy/agent/store/shadow-store.ts';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import { Epochs } from '../../../../proxy/coordinator/epochs/epochs.ts';
import { FoldJob } from '../../../../proxy/coordinator/epochs/fold-job.ts';
import { Exclusive } from '../../../../proxy/coordinator/rounds/exclusive.ts';
import type { Failure } from '../../../../proxy/failure/failure.ts';
import type { Agent } from '../../../../proxy/protocol/agent.ts';
import type { ClusterConfig } from '../../../../proxy/protocol/cluster.ts';
import { Catalogue, occupiedBytes } from '../../../../shadow/index.ts';
import { PAGE, PAGES, roundOf, sealEpoch } from '../../../shadow/durable/sealed-epoch.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const MEMBERS = ['a', 'b'];
const FOLDED = roundOf(9);
const RAM = (PAGES + 16) * PAGE;
/** Bytes of it that are no holes. */
const HELD = 520 * PAGE;
const BUDGET = 2 ** 30;

interface Told {
  readonly msg: string;
  readonly failure?: Failure;
}

const test = suite('fold job');
let root = '';
let config: ClusterConfig;
let catalogue: Catalogue;
let store: ShadowStore;
let admission: RoundAdmission;
let exclusive: Exclusive;
let told: Told[] = [];

test.before.each(async () => {
  const budget = `${BUDGET}B`;
  root = mkdtempSync(join(scratchFolder(), 'umbra-fold-job-'));
  const members = MEMBERS.map((name) => ({ name, qmp: `${name}.sock` }));
  const text = JSON.stringify({ cluster: 'demo', members, store: { budget, headroom: '0B' } });
  config = parseClusterConfig(text, '/etc/cluster.yaml', root);
  catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  store = new ShadowStore(config, catalogue, new RoundsInUse(), pino({ level: 'silent' }));
  await store.open();
  admission = new RoundAdmission(config, catalogue);
  exclusive = new Exclusive();
  told = [];
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function fold(): FoldJob {
  const agent = {
    deltaShare: (epoch) => store.deltaShare(epoch),
    beginFold: (epoch, round, signal) => store.beginFold(epoch, round, admission, signal),
    endRound: (round) => store.endRound(round),
    collect: (how) => store.collect(how),
  } as Partial<Agent> as Agent;
  const log = pino({}, { write: (line: string) => told.push(JSON.parse(line) as Told) });
  const epochs = new Epochs(config, catalogue, agent, undefined, log);
  return new FoldJob({ foldAt: 0.01 }, agent, catalogue, epochs, exclusive, log);
}

async function publish(): Promise<void> {
  const { shadowsDirectory } = config;
  const base = await sealEpoch(shadowsDirectory, 1, MEMBERS);
  const delta = await sealEpoch(shadowsDirectory, 2, MEMBERS, base);
  await catalogue.publish(base);
  await catalogue.publish(delta);
}

/** Flips a byte; a second call restores it. The kernel notices the write. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100);
  writeFileSync(path, bytes);
  utimesSync(path, 1, 1);
}

function rounds(): string[] {
  const names = readdirSync(config.shadowsDirectory);
  return names.filter((name) => name.startsWith('r')).sort();
}

/** Returns free bytes of the budget when a round is admitted that stages another member. */
async function freeBytes(): Promise<number> {
  const blockBytes = [RAM];
  const examined = new Map([['c', { shadowBytes: RAM, blockBytes, qemuVersion: '10.0.2' }]]);
  return (await admission.admit(examined, [])).freeBytes;
}

test('a damaged epoch is unchanged and reported, and others are folded', async () => {
  await publish();
  const path = join(config.shadowsDirectory, roundOf(2), 'b', 'ram-0.delta');
  flip(path);
  const job = fold();
  const free = await freeBytes();
  await job.foldIfLarge(2, FOLDED);
  assert.is(await freeBytes(), free, 'it is given nothing any more');
  const { failure, msg } = told.at(-1) ?? {};
  assert.is(msg, 'an epoch is damaged: it was not folded');
  assert.equal([failure?.code, failure?.member], ['E_EPOCH_CORRUPT', 'b']);
  assert.match(failure?.message ?? '', path);
  assert.is((await catalogue.read(2)).round, roundOf(2));
  assert.equal(rounds(), [roundOf(1), roundOf(2)]);

  flip(path); // as it was sealed
  await job.foldIfLarge(2, FOLDED);
  assert.is((await catalogue.read(2)).round, FOLDED);
  assert.equal(rounds(), [roundOf(1), FOLDED]);
});

test('an epoch removed during its fold is not called damaged, and leaves nothing', async () => {
  await publish();
  const folding = fold().foldIfLarge(2, FOLDED);
  while (!rounds().includes(FOLDED)) await nextTurn();
  await catalogue.retire(2);
  await store.collect('free');
  assert.ok(rounds().includes(roundOf(2)), 'what is read stays until it was');
  await folding.then(
    () => assert.unreachable(),
    ({ code }) => assert.is(code, 'E_EPOCH_UNKNOWN'),
  );
  await store.collect('free');
  assert.equal(rounds(), [roundOf(1)]);
});

test('a fold owns the memory it was admitted to while it runs, and none afterwards', async () => {
  await publish();
  const free = await freeBytes();
  const folding = fold().foldIfLarge(2, FOLDED);
  while (!rounds().includes(FOLDED)) await nextTurn();
  // As long as a round goes on, what was folded is not named, and what it was made of is there.
  const left = await exclusive.run('checkpoint', freeBytes);
  assert.ok(left <= free - MEMBERS.length * HELD, `of ${free}, ${left} were left`);
  await folding;
  const after = await freeBytes();
  const occupied = await occupiedBytes(config.shadowsDirectory);
  assert.is(after, BUDGET - occupied - RAM - MEMBERS.length * config.round.inFlightBytes);
});

test('a fold is not admitted during a round, but after it', async () => {
  await publish();
  let over = () => {};
  const round = exclusive.run('checkpoint', () => new Promise<void>((done) => (over = done)));
  const folding = fold().foldIfLarge(2, FOLDED);
  await delay(50);
  assert.not(told.some(({ msg }) => msg === 'folded'));
  assert.equal(rounds(), [roundOf(1), roundOf(2)]);
  over();
  await round;
  await folding;
  assert.is((await catalogue.read(2)).round, FOLDED);
});

test.run();
