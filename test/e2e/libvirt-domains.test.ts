/**
 * Domains that libvirt runs are members of a cluster: found by libvirt's URI, checkpointed through
 * its monitor, restored by it. Libvirt's own view of them is correct before, during and after a
 * round, and an error names what it cannot do.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { GuestControl } from '../../tools/guest/control.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import { endJob, type Guests, jobRuns, startJob } from '../support/job.ts';
import { suite } from '../support/suite.ts';

const DOMAINS = ['m0', 'm1'];
const NODES = ['j0', 'j1'];
const JOB = { cases: 10, order: 400 };
/** Code of the failure when libvirtd is gone. */
const AWAY = /^E_(QMP_AWAY|LIBVIRT_CONNECT)$/;
const RETURN_PATH = '{"execute":"query-migrate-capabilities"}';

const test = suite('libvirt domains');
let pair: LibvirtPair;

test.before(async () => {
  pair = await LibvirtPair.create();
  for (const name of DOMAINS) await pair.a.create(pair.xml({ name, loadMiB: 16 }));
  for (const name of DOMAINS) {
    await untilTicks(pair.console(name), 0, ({ checks }) => checks.length > 0);
  }
});

test.after(async () => {
  await pair?.umbra('down', '--purge');
  pair?.dispose();
});

const capabilities = () =>
  Promise.all(
    DOMAINS.map(async (name) => {
      const answer = await pair.a.ask('qemu-monitor-command', name, RETURN_PATH);
      return (JSON.parse(answer) as { return: unknown }).return;
    }),
  );

const states = () => Promise.all(DOMAINS.map((name) => pair.a.ask('domstate', name)));

async function failureOf(...args: readonly string[]): Promise<Failure> {
  const { code, stdout } = await pair.umbra(...args, '--json');
  assert.is(code, 1, stdout);
  return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure }).failure;
}

test('attach finds the running domains', async () => {
  const { members } = await pair.json<ClusterStatus>('attach', pair.a.uri);
  assert.equal(
    members.map(({ member, running, owned }) => [member, running, owned]),
    DOMAINS.map((name) => [name, true, false]),
  );
});

test('a checkpoint leaves domains unchanged, in themselves and for libvirt', async () => {
  const before = await capabilities();
  const report = await pair.json<RoundReport>('checkpoint');
  assert.is(report.epoch, 1);
  assert.equal(await capabilities(), before);
  assert.equal(await states(), ['running', 'running']);
  for (const name of DOMAINS) {
    assert.match(await pair.a.ask('domjobinfo', name), /^Job type:\s+None/);
    const { numbers } = readTicks(pair.console(name));
    const now = await untilTicks(pair.console(name), 0, (ticks) => {
      return ticks.numbers.length > numbers.length + 3;
    });
    assert.equal([now.names.length, firstGap(now)], [1, undefined]);
  }
});

test('a domain whose name is the id of another is not taken for it', async () => {
  const name = await pair.a.ask('domid', 'm0');
  await pair.a.create(pair.xml({ name }));
  await untilTicks(pair.console(name), 0, ({ checks }) => checks.length > 0);
  const file = join(pair.directory, 'numbers.yaml');
  const members = [{ name: 'number', libvirt: pair.a.uri, domain: name }];
  writeFileSync(file, stringify({ cluster: 'numbers', members }));
  await pair.json('up', file);
  const other = await pair.a.ask('domuuid', 'm0');
  const numbers = readTicks(pair.console('m0')).numbers.length;
  await pair.json('checkpoint', '-c', 'numbers');
  const from = logEnd(pair.console(name));
  await pair.json('restore', '--replace', '-c', 'numbers');
  await untilTicks(pair.console(name), from, (ticks) => ticks.checks.length > 0);
  // virsh takes a number for an id: the list tells names.
  const list = await pair.a.ask('list', '--name');
  assert.equal(list.trim().split('\n').sort(), [name, ...DOMAINS].sort());
  assert.is(await pair.a.ask('domid', 'm0'), name, 'the other was neither killed nor restored');
  assert.is(await pair.a.ask('domuuid', 'm0'), other);
  await untilTicks(pair.console('m0'), 0, (ticks) => ticks.numbers.length > numbers + 3);
  await pair.json('down', '--purge', '-c', 'numbers');
  await pair.a.ask('destroy', await uuidOf(name));
});

/** Returns the UUID of the domain of exactly this name. */
async function uuidOf(name: string): Promise<string> {
  const rows = (await pair.a.ask('list', '--uuid', '--name')).trim().split('\n');
  const row = rows.map((line) => line.trim().split(/\s+/)).find(([, called]) => called === name);
  return row?.[0] ?? '';
}

test('an epoch of domains is exported without further options', async () => {
  const folder = join(pair.memory, 'umbra', 'images');
  interface Exported {
    readonly exported: readonly { readonly member: string; readonly file: string }[];
  }
  const { exported } = await pair.json<Exported>('export', '1', '--libvirt', folder);
  assert.equal(exported.map(({ member }) => member).sort(), DOMAINS);
  for (const { member, file } of exported) {
    const xml = await pair.a.ask('save-image-dumpxml', file);
    assert.match(xml, await pair.a.ask('domuuid', member));
    rmSync(file);
  }
});

test('all are destroyed, and restored as libvirt’s domains', async () => {
  const [name = ''] = readTicks(pair.console('m0')).names;
  for (const domain of DOMAINS) await pair.a.ask('destroy', domain);
  const from = DOMAINS.map((domain) => logEnd(pair.console(domain)));
  const { members } = await pair.json<RestoreReport>('restore');
  assert.equal(
    members.map(({ mode }) => mode),
    ['libvirt', 'libvirt'],
  );
  assert.equal(await states(), ['running', 'running']);
  for (const [at, domain] of DOMAINS.entries()) {
    const ticks = await untilTicks(pair.console(domain), from[at] ?? 0, ({ numbers, checks }) => {
      return numbers.length > 5 && checks.length > 0;
    });
    assert.equal([ticks.names.length, firstGap(ticks)], [1, undefined]);
    assert.not.match(ticks.checks.join(), 'CORRUPT');
  }
  assert.equal(readTicks(pair.console('m0'), from[0]).names, [name]);
  assert.is((await pair.json<RoundReport>('checkpoint')).epoch, 2, 'it can be checkpointed again');
});

test('a stopped domain or libvirtd is reported, and afterwards rounds succeed', async () => {
  await pair.a.killDaemon();
  const gone = await failureOf('checkpoint');
  assert.match(gone.code, AWAY);
  assert.match(gone.hint ?? '', 'libvirt runs');
  await pair.a.startDaemon();
  assert.equal(await states(), ['running', 'running']);
  await pair.a.ask('destroy', 'm1');
  const { code, member } = await failureOf('checkpoint');
  assert.match(code, /E_VM_GONE|E_LIBVIRT_DOMAIN|E_QMP/);
  assert.is(member, 'm1');
  assert.is(await pair.a.ask('domstate', 'm0'), 'running');
  await pair.json('restore', '--replace');
  assert.equal(await states(), ['running', 'running']);
  await pair.json('checkpoint');
});

/** Checks that a domain runs, without waiting for libvirt. */
async function goesOn(name: string): Promise<void> {
  const { numbers } = readTicks(pair.console(name));
  await untilTicks(pair.console(name), 0, (now) => now.numbers.length > numbers.length + 5);
}

// At member/m0/live, the stream's connection may just be passing through libvirt to QEMU.
for (const location of ['member/m0/live', 'round/live', 'member/m0/stopped']) {
  test(`libvirtd is killed at ${location}: no epoch, and the VMs run without it`, async () => {
    const { epochs } = await pair.json<{ epochs: unknown[] }>('epochs');
    freezeAt(pair, location);
    const failed = failureOf('checkpoint');
    const frozen = await frozenProcess(pair);
    await pair.a.killDaemon();
    process.kill(frozen, 'SIGCONT');
    const { code, hint, message } = await failed;
    assert.match(code, AWAY, message);
    assert.match(hint ?? '', 'libvirt runs');
    for (const name of DOMAINS) await goesOn(name);
    await pair.a.startDaemon();
    while ((await states()).join() !== 'running,running');
    const after = await pair.json<{ epochs: unknown[] }>('epochs');
    assert.is(after.epochs.length, epochs.length);
    await pair.json('checkpoint');
  });
}

test('with a monitor besides libvirt’s, a round completes though libvirtd is gone', async () => {
  for (const domain of DOMAINS) await pair.a.ask('destroy', domain);
  for (const name of DOMAINS) {
    const from = logEnd(pair.console(name));
    await pair.a.create(pair.xml({ name, loadMiB: 16, monitor: pair.wire(`${name}.qmp`).a }));
    await untilTicks(pair.console(name), from, ({ checks }) => checks.length > 0);
  }
  freezeAt(pair, 'member/m1/stopped');
  const taken = pair.json<RoundReport>('checkpoint');
  const frozen = await frozenProcess(pair);
  await pair.a.killDaemon();
  process.kill(frozen, 'SIGCONT');
  const { epoch } = await taken;
  assert.ok(epoch);
  for (const name of DOMAINS) await goesOn(name);
  await pair.a.startDaemon();
  while ((await states()).join() !== 'running,running');
  const from = DOMAINS.map((domain) => logEnd(pair.console(domain)));
  await pair.json('restore', '--replace');
  for (const [at, domain] of DOMAINS.entries()) {
    await untilTicks(pair.console(domain), from[at] ?? 0, ({ checks }) => checks.length > 1);
  }
  assert.equal(await states(), ['running', 'running']);
});

test('a wrong URI, or one where nothing runs, changes nothing', async () => {
  const uri = 'qemu+unix:///session?socket=/nowhere';
  assert.is((await failureOf('attach', uri, '-c', 'other')).code, 'E_LIBVIRT_CONNECT');
  assert.is((await failureOf('attach', pair.b.uri, '-c', 'other')).code, 'E_LIBVIRT_DOMAIN');
  const { code } = await pair.umbra('status', '-c', 'other');
  assert.is(code, 1);
});

test('an MPI job on domains survives the loss of all of them', async () => {
  await pair.umbra('down', '--purge');
  for (const domain of DOMAINS) await pair.a.ask('destroy', domain);
  for (const [index, name] of NODES.entries()) {
    const node = { index, nodes: NODES.length };
    await pair.b.create(pair.xml({ name, memoryMiB: 192, node }));
  }
  let guests = await bringUp();
  await startJob(guests, JOB);
  await jobRuns(guests, 3);
  await pair.json('attach', pair.b.uri, '-c', 'mpi');
  await pair.json('checkpoint', '-c', 'mpi');
  for (const { close } of guests.controls) close();
  for (const name of NODES) await pair.b.ask('destroy', name);
  await pair.json('restore', '-c', 'mpi');
  guests = await bringUp();
  const { code, output } = await endJob(guests);
  assert.is(code, 0, output);
  for (const { close } of guests.controls) close();
  await pair.json('down', '--purge', '-c', 'mpi');
});

interface Controlled extends Guests {
  readonly controls: readonly { readonly close: () => void }[];
}

/** Waits until the nodes have booted, and returns their control channels. */
async function bringUp(): Promise<Controlled> {
  const controls = await Promise.all(
    NODES.map((name) => GuestControl.connect(pair.wire(`${name}.control`).b)),
  );
  await Promise.all(controls.map((control) => control.waitBoot()));
  const control = (node: number) => {
    const found = controls[node];
    if (found === undefined) throw new Error(`no node ${node}`);
    return found;
  };
  return {
    nodes: NODES.length,
    controls: controls.map((one) => ({ close: () => one.close() })),
    guest: async (node: number) => control(node),
    async shell(node: number, command: string) {
      const { output, exitCode } = await control(node).run(command);
      if (exitCode !== 0) throw new Error(`${command}: status ${exitCode}: ${output}`);
      return output;
    },
  };
}

test.run();
