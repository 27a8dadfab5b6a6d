/**
 * Libvirt migrations between two hosts through Umbra's relay: every kind of connection that libvirt
 * makes, and every way in which one breaks. The guest's ticks are consecutive throughout, and it
 * checks its own memory. After a failure libvirt's state is clean: the domain runs where it was, no
 * job is left, and another attempt succeeds.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RestoreReport } from '../../proxy/protocol/report.ts';
import type { MigrationReport } from '../../proxy/relay/report.ts';
import { type LibvirtHost, ownFolder } from '../../tools/testbed/libvirt-host.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { RelayProcess } from '../../tools/testbed/relay-process.ts';
import { type CommandEnd, umbraCommand } from '../../tools/testbed/testbed.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';
import { suite } from '../support/suite.ts';

const PORT = 49_300;
const DOMAIN = 'd';
/**
 * Bandwidth, MiB/s: a migration takes half a minute, and can be broken in its middle on any
 * machine.
 */
const SLOW = ['--bandwidth', '3'];
const MIDDLE_BYTES = 4 * 2 ** 20;

const test = suite('libvirt relay');
let pair: LibvirtPair;
let image: string;
let relay: RelayProcess | undefined;

test.before(async () => {
  pair = await LibvirtPair.create();
  await pair.a.create(pair.xml({ name: DOMAIN }));
  await untilTicks(pair.console(DOMAIN), 0, ({ checks }) => checks.length > 0);
  image = join(pair.directory, 'a', `${DOMAIN}.save`);
  await pair.a.ask('save', DOMAIN, image);
});

test.after(async () => {
  await relay?.kill();
  pair?.dispose();
});

test.after.each(async () => {
  await relay?.kill();
  for (const host of [pair.a, pair.b]) await host.virsh(['destroy', DOMAIN]);
});

/** Restores the saved domain on host a. @returns its log's position at that time */
async function bringUp(): Promise<number> {
  const from = logEnd(pair.console(DOMAIN));
  await pair.a.ask('restore', image);
  return from;
}

async function startRelay(...options: readonly string[]): Promise<string> {
  const listen = `tcp://${pair.addressA}:${PORT}`;
  const to = `tcp://${pair.addressB}:${PORT}`;
  relay = await RelayProcess.start('--listen', listen, '--to', to, '--name', DOMAIN, ...options);
  return listen;
}

function migrate(uri: string, ...options: readonly string[]): Promise<CommandEnd> {
  const words = ['migrate', '--live', DOMAIN, pair.b.uri, '--migrateuri', uri];
  return pair.a.virsh([...words, ...options]);
}

/** Checks that the guest has missed no tick, and that its memory is intact. */
async function goesOn(from: number): Promise<void> {
  const log = pair.console(DOMAIN);
  const { numbers, checks } = readTicks(log, from);
  const ticks = await untilTicks(log, from, (now) => {
    return now.numbers.length >= numbers.length + 3 && now.checks.length > checks.length;
  });
  assert.is(ticks.names.length, 1, 'it was rebooted');
  assert.is(firstGap(ticks), undefined);
  assert.equal(
    ticks.checks.filter((line) => !line.includes('verified')),
    [],
  );
}

async function runsOn(host: LibvirtHost): Promise<void> {
  assert.is(await host.ask('domstate', DOMAIN), 'running');
}

async function report(): Promise<MigrationReport> {
  const [found] = (await relay?.reports(1)) ?? [];
  if (found === undefined) throw new Error('no report');
  return found;
}

async function moved(
  from: number,
  end: CommandEnd,
  outcome = 'completed',
): Promise<MigrationReport> {
  assert.is(end.code, 0, end.stderr);
  await runsOn(pair.b);
  assert.is.not((await pair.a.virsh(['domstate', DOMAIN])).code, 0);
  await goesOn(from);
  const found = await report();
  assert.is(found.outcome, outcome);
  assert.is(found.failure, undefined);
  return found;
}

test('a migration goes through, both ways of the connection', async () => {
  const from = await bringUp();
  const uri = await startRelay();
  const { transport, ramBytes, returnBytes, channels } = await moved(from, await migrate(uri));
  assert.is(transport, 'single');
  assert.is(channels.length, 1);
  assert.ok((ramBytes ?? 0) >= 160 * 2 ** 20);
  assert.ok(returnBytes >= 8, 'the destination answers on the return path');
});

test('peer to peer', async () => {
  const from = await bringUp();
  const uri = await startRelay();
  assert.is((await moved(from, await migrate(uri, '--p2p'))).transport, 'single');
});

test('in parallel: the main channel and two of multifd', async () => {
  const from = await bringUp();
  const uri = await startRelay();
  const found = await moved(from, await migrate(uri, '--parallel'));
  assert.is(found.transport, 'parallel');
  assert.equal(found.channels.map(({ kind }) => kind).sort(), ['main', 'multifd', 'multifd']);
  assert.ok((found.ramBytes ?? 0) >= 160 * 2 ** 20);
});

test('in TLS: passed through, without a shadow, as the relay cannot read it', async () => {
  const from = await bringUp();
  const store = join(pair.memory, 'tls');
  const uri = await startRelay('--shadow', store);
  const found = await moved(from, await migrate(uri, '--tls'), 'closed');
  assert.is(found.transport, 'encrypted');
  assert.match(found.notes.join(), /E_RELAY_SHADOW.*--tls/);
  assert.equal(epochs(store), []);
});

test('over unix sockets, in one connection and in parallel', async () => {
  for (const [at, options] of [[], ['--p2p', '--parallel']].entries()) {
    const from = await bringUp();
    const { a, b } = pair.wire(`m${at}.sock`);
    relay = await RelayProcess.start('--listen', `unix://${a}`, '--to', `unix://${b}`);
    const found = await moved(from, await migrate(`unix://${a}`, ...options));
    assert.is(found.transport, at === 0 ? 'single' : 'parallel');
    await relay.kill();
    await pair.b.ask('destroy', DOMAIN);
  }
});

test('tunnelled: libvirt refuses to name a relay, which reports that none came', async () => {
  const from = await bringUp();
  const uri = await startRelay();
  const refused = await migrate(uri, '--p2p', '--tunnelled');
  assert.is.not(refused.code, 0);
  assert.match(refused.stderr, /tunnelled/);
  await runsOn(pair.a);
  const words = ['migrate', '--live', '--p2p', '--tunnelled', DOMAIN, pair.b.uri];
  const { code, stderr } = await pair.a.virsh(words);
  assert.is(code, 0, stderr);
  await runsOn(pair.b);
  await goesOn(from);
  assert.match((await relay?.end())?.[DOMAIN] ?? '', /no migration came by.*--tunnelled/);
});

/** Checks a failed migration: the domain runs at its source, and another attempt succeeds. */
async function stayed(from: number, end: CommandEnd): Promise<void> {
  assert.is.not(end.code, 0, 'the migration went through');
  await runsOn(pair.a);
  assert.match(await pair.a.ask('domjobinfo', DOMAIN), /^Job type:\s+None/);
  assert.is((await pair.b.virsh(['domstate', DOMAIN])).code, 1);
  await goesOn(from);
  await relay?.kill();
  await moved(from, await migrate(await startRelay()));
}

/** Begins a slow migration; resolves when a good part of it has passed through. */
async function underWay(
  ...options: readonly string[]
): Promise<{ readonly from: number; readonly end: Promise<CommandEnd> }> {
  const from = await bringUp();
  const uri = await startRelay(...options);
  const end = migrate(uri, ...SLOW);
  let over = false;
  void end.then(() => {
    over = true;
  });
  for (let bytes = 0; bytes < MIDDLE_BYTES; ) {
    assert.not(over, 'it has ended already');
    const { stdout } = await pair.a.virsh(['domjobinfo', DOMAIN, '--rawstats']);
    bytes = Number(/memory_processed: (\d+)/.exec(stdout)?.[1] ?? 0);
  }
  return { from, end };
}

test('the relay is killed in the middle', async () => {
  const { from, end } = await underWay();
  await relay?.kill();
  await stayed(from, await end);
});

test('the destination is killed in the middle', async () => {
  const { from, end } = await underWay();
  process.kill(pair.b.qemuPid(DOMAIN), 'SIGKILL');
  assert.is((await report()).outcome, 'failed');
  await stayed(from, await end);
});

test('the cable is cut in the middle', async () => {
  const { from, end } = await underWay('--stall-limit', '5s');
  pair.cut();
  const { outcome, failure } = await report();
  assert.equal([outcome, failure?.code], ['failed', 'E_RELAY_STALLED']);
  const ended = await end;
  pair.mend();
  await stayed(from, ended);
});

test('the operator aborts the job', async () => {
  const { from, end } = await underWay();
  await pair.a.ask('domjobabort', DOMAIN);
  assert.is((await report()).outcome, 'failed');
  await stayed(from, await end);
});

test('a destination that does not listen fails the migration at once', async () => {
  const from = await bringUp();
  const listen = `tcp://${pair.addressA}:${PORT}`;
  relay = await RelayProcess.start('--listen', listen, '--to', `tcp://${pair.addressB}:1`);
  const end = await migrate(listen);
  assert.equal((await report()).failure?.code, 'E_RELAY_TARGET');
  await stayed(from, end);
});

interface Exported {
  readonly exported: readonly { readonly file: string }[];
}

test('the shadow that the relay keeps can be restored', async () => {
  const from = await bringUp();
  const store = join(pair.memory, 'kept');
  const uri = await startRelay('--shadow', store);
  const { numbers: before } = readTicks(pair.console(DOMAIN), from);
  const { shadow, notes } = await moved(from, await migrate(uri));
  assert.equal([shadow?.kept, notes], [true, []]);
  const epoch = shadow?.kept ? shadow.epoch : 0;
  const { names, numbers: after } = readTicks(pair.console(DOMAIN), from);
  await pair.b.ask('destroy', DOMAIN);
  const { exported } = await exportEpoch(store, epoch);
  const restoredFrom = logEnd(pair.console(DOMAIN));
  await pair.a.ask('restore', exported[0]?.file ?? '');
  await goesOn(restoredFrom);
  const restored = readTicks(pair.console(DOMAIN), restoredFrom);
  assert.equal(restored.names, names);
  const first = restored.numbers[0] ?? 0;
  assert.ok(first > (before.at(-1) ?? 0), 'it is not from before the migration');
  assert.ok(first < (after.at(-1) ?? 0), 'it is as it was when it moved');
});

test('the shadow that the relay keeps comes back by umbra restore, as a member', async () => {
  const from = await bringUp();
  const store = join(pair.memory, 'back');
  const file = join(pair.directory, 'relay.yaml');
  const route = { name: 'vm', listen: address('a'), to: address('b') };
  writeFileSync(file, stringify({ routes: [route], store: { directory: store } }));
  relay = await RelayProcess.start(file);
  const cluster = join(pair.directory, 'cluster.yaml');
  const members = [{ name: DOMAIN, libvirt: pair.a.uri, domain: DOMAIN }];
  writeFileSync(cluster, stringify({ cluster: 'back', members }));
  await pair.json('up', cluster);
  try {
    const { shadow } = await moved(from, await migrate(route.listen));
    assert.is(shadow?.kept, true);
    const { names, numbers: after } = readTicks(pair.console(DOMAIN), from);
    await pair.b.ask('destroy', DOMAIN);
    const words = ['restore', '--cluster', 'back', '--store', store];
    const codeOf = async (...more: readonly string[]) => {
      const { stdout } = await pair.umbra(...words, ...more, '--json');
      const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
      return (last.failure as Failure | undefined)?.code;
    };
    assert.is(await codeOf('1'), 'E_RELAY_STORE', 'it is of another user');
    ownFolder(store);
    execFileSync('chown', ['-R', '--reference', store, store]);
    assert.is(await codeOf('1'), 'E_MEMBER_UNKNOWN', 'it is called vm there');
    const member = ['--member', DOMAIN];
    assert.is(await codeOf('9', ...member), 'E_EPOCH_UNKNOWN');
    assert.is(await codeOf('1', ...member), 'E_LIBVIRT_XML', 'libvirt has forgotten it');
    assert.is(await codeOf('1', ...member, '--mode', 'map'), 'E_LIBVIRT_XML');
    const xml = join(pair.directory, 'domain.xml');
    writeFileSync(xml, pair.xml({ name: DOMAIN }));
    const restoredFrom = logEnd(pair.console(DOMAIN));
    const given = await pair.json<RestoreReport>(...words, '1', ...member, '--xml', xml);
    assert.equal(
      given.members.map(({ member: name, mode }) => [name, mode]),
      [[DOMAIN, 'libvirt']],
    );
    await isAsItMoved(restoredFrom, { names, last: after.at(-1) ?? 0 });
    assert.is(await codeOf('1', ...member), 'E_MEMBERS_RUNNING');
    // Once more, over the one that runs: libvirt has its XML now.
    await pair.a.ask('suspend', DOMAIN); // it prints nothing more
    const again = logEnd(pair.console(DOMAIN));
    const { killed } = await pair.json<RestoreReport>(...words, '1', ...member, '--replace');
    assert.equal(killed, [DOMAIN]);
    await isAsItMoved(again, { names, last: after.at(-1) ?? 0 });
    assert.is(epochs(store).length, 1, 'the relay’s epoch stays');
    assert.is(await codeOf('1', ...member, '--store', pair.directory), 'E_RELAY_STORE');
  } finally {
    await pair.umbra('down', '--purge', '--cluster', 'back');
  }
});

/** Checks that the guest runs on from where it was when it moved. */
async function isAsItMoved(
  from: number,
  moved: { readonly names: readonly string[]; readonly last: number },
): Promise<void> {
  await runsOn(pair.a);
  await goesOn(from);
  const { names, numbers } = readTicks(pair.console(DOMAIN), from);
  assert.equal(names, moved.names);
  assert.ok((numbers[0] ?? 0) < moved.last, 'it is from after it had moved');
}

function address(host: 'a' | 'b'): string {
  return `tcp://${host === 'a' ? pair.addressA : pair.addressB}:${PORT}`;
}

test('no shadow is kept of a migration that cannot be read or has failed', async () => {
  const store = join(pair.memory, 'none');
  const none = () => assert.equal([epochs(store), shadows(store)], [[], []]);
  const from = await bringUp();
  const uri = await startRelay('--shadow', store);
  const { shadow, notes } = await moved(from, await migrate(uri, '--parallel'));
  assert.is(shadow?.kept, false);
  assert.match(notes.join(), 'E_RELAY_SHADOW');
  none();
  await relay?.kill();
  await pair.b.ask('destroy', DOMAIN);
  const { end } = await underWay('--shadow', store);
  assert.is(shadows(store).length, 1);
  await pair.a.ask('domjobabort', DOMAIN);
  assert.equal([(await report()).shadow?.kept, (await end).code], [false, 1]);
  none();
});

/** Lists the manifests in a relay's store. */
function epochs(store: string): string[] {
  return readdirSync(join(store, 'epochs')).filter((name) => name.endsWith('.json'));
}

/** Lists the rounds in a relay's store. */
function shadows(store: string): string[] {
  return readdirSync(join(store, 'shadows')).filter((name) => name !== 'spare');
}

async function exportEpoch(store: string, epoch: number): Promise<Exported> {
  const folder = join(pair.memory, 'images');
  ownFolder(folder);
  const xml = join(folder, 'domain.xml');
  writeFileSync(xml, pair.xml({ name: DOMAIN }));
  const [program, ...words] = umbraCommand();
  const args = ['export', String(epoch), '--store', store, '--libvirt', folder, '--xml', xml];
  const stdout = execFileSync(program, [...words, ...args, '--json'], { encoding: 'utf8' });
  const result = JSON.parse(stdout) as Exported;
  for (const { file } of result.exported) chmodSync(file, 0o644);
  return result;
}

test.run();
