/**
 * Domains whose memory is a private file are restored by `map`: libvirt's QEMU maps the epoch's
 * image instead, and loads only what differs from it. Those whose memory is shared are loaded
 * whole, and the report says why. The epoch never changes, whatever the guests write.
 */
import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';
import { suite } from '../support/suite.ts';

const DOMAINS = ['f0', 's0'];
const MiB = 2 ** 20;
const LIMIT_MS = 300_000;
/** Least memory that a guest uses; a domain that maps nothing loads it all. */
const WHOLE_BYTES = 48 * MiB;
/** Most for one that maps: the head of 1 MiB, which a newer libvirt reads twice, devices, ROMs. */
const LEAN_BYTES = 4 * MiB;

const test = suite('libvirt map');
let pair: LibvirtPair;

test.before(async () => {
  pair = await LibvirtPair.create();
  await pair.a.create(pair.xml({ name: 'f0', loadMiB: 16, memoryFile: 'private' }));
  await pair.a.create(pair.xml({ name: 's0', loadMiB: 16, memoryFile: 'shared' }));
  for (const name of DOMAINS) {
    await untilTicks(pair.console(name), 0, ({ checks }) => checks.length > 0);
  }
  await pair.json('attach', pair.a.uri);
});

test.after(async () => {
  await pair?.umbra('down', '--purge');
  pair?.dispose();
});

/**
 * Destroys the domains, restores, and checks that each guest continues to write and check memory.
 */
async function restored(...args: readonly string[]): Promise<RestoreReport['members']> {
  for (const name of DOMAINS) await pair.a.virsh(['destroy', name]);
  const names = DOMAINS.map((name) => readTicks(pair.console(name)).names[0]);
  const from = DOMAINS.map((name) => logEnd(pair.console(name)));
  const { members } = await pair.json<RestoreReport>('restore', ...args);
  for (const [at, name] of DOMAINS.entries()) {
    const ticks = await untilTicks(pair.console(name), from[at] ?? 0, ({ numbers, checks }) => {
      return numbers.length > 5 && checks.length > 1;
    });
    assert.equal([ticks.names, firstGap(ticks)], [[names[at]], undefined]);
    assert.equal(
      ticks.checks.filter((line) => !line.includes('verified')),
      [],
    );
    assert.is(await pair.a.ask('domstate', name), 'running');
  }
  return [...members].sort((a, b) => a.member.localeCompare(b.member));
}

/** Returns the lines of /proc/PID/maps that belong to an image of an epoch. */
function ownImages(domain: string): string[] {
  const maps = readFileSync(`/proc/${pair.a.qemuPid(domain)}/maps`, 'utf8').split('\n');
  return maps.filter((line) => line.includes(join(pair.memory, 'umbra')));
}

/** Checks the report: f0 has mapped its image privately; s0 has loaded all of it. */
function asTold([f0, s0]: RestoreReport['members']): void {
  assert.equal([f0?.member, f0?.mode, f0?.reason], ['f0', 'map', undefined]);
  assert.equal([s0?.member, s0?.mode], ['s0', 'libvirt']);
  assert.match(s0?.reason ?? '', /shared/);
  assert.ok((s0?.bytes ?? 0) > WHOLE_BYTES, `${s0?.bytes} bytes`);
  const [image = '', ...more] = ownImages('f0');
  assert.match(image, /rw-p/);
  assert.equal([more, ownImages('s0')], [[], []]);
}

/** Returns the folder in which libvirt keeps the memory of domains. */
const memoryFolder = () => join(pair.a.directory, 'config/libvirt/qemu/ram');

test('a domain with private memory maps the epoch’s image, another loads all of it', async () => {
  assert.is((await pair.json<RoundReport>('checkpoint')).epoch, 1);
  const members = await restored();
  asTold(members);
  const [f0] = members;
  assert.ok((f0?.bytes ?? 0) < LEAN_BYTES, `${f0?.bytes} bytes for devices and ROMs`);
  const left = readdirSync(memoryFolder(), { recursive: true, encoding: 'utf8' });
  assert.equal(
    left.filter((name) => name.endsWith('pc.ram') && name.includes('f0')),
    [],
    'the link to the image has gone',
  );
  await pair.json('verify', '1');
});

test('doctor says for each domain whether it can be mapped', async () => {
  interface Doctor {
    readonly findings: readonly { readonly check: string; readonly found: string }[];
  }
  const { stdout } = await pair.umbra('doctor', '--json');
  const { findings } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Doctor;
  const told = (domain: string) =>
    findings.find(({ check }) => check.endsWith(`/${domain}`))?.found;
  assert.match(told('s0') ?? '', /no restore by map: its memory is shared/);
  assert.not.match(told('f0') ?? 'nothing', /no restore by map|nothing/);
});

test('checkpointed again, it is restored from either epoch; both stay unchanged', async () => {
  assert.is((await pair.json<RoundReport>('checkpoint')).epoch, 2);
  asTold(await restored('2'));
  await pair.json('verify', '2');
  asTold(await restored('1'));
  await pair.json('verify', '1');
  for (const name of DOMAINS) await pair.a.ask('destroy', name);
  assert.equal(readdirSync(memoryFolder()), [], 'libvirt cleans up after itself');
  await pair.json('verify', '1');
  await pair.json('verify', '2');
});

test('a restore that requires map names domains that cannot, and starts nothing', async () => {
  const { code, stdout } = await pair.umbra('restore', '--mode', 'map', '--json');
  assert.is(code, 1);
  const { failure } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure };
  assert.equal([failure.code, failure.member], ['E_MAP_UNSUPPORTED', 's0']);
  assert.match(failure.message, /shared/);
  assert.ok(failure.hint);
  assert.is(await pair.a.ask('list', '--name'), '');
});

test('nothing is mapped if stream is requested', async () => {
  const members = await restored('--mode', 'stream');
  assert.equal(
    members.map(({ mode }) => mode),
    ['libvirt', 'libvirt'],
  );
  assert.equal(ownImages('f0'), []);
});

test('proxies killed while libvirt loads leave no domain, and nothing in its way', async () => {
  for (const name of DOMAINS) await pair.a.virsh(['destroy', name]);
  const restoring = pair.umbra('restore', '--json');
  await until(() => runs('s0'));
  // Loading is frozen until the proxies are dead: however fast, it has not completed by then.
  const loading = pair.a.qemuPid('s0');
  process.kill(loading, 'SIGSTOP');
  for (const [pid, commandLine] of pair.processes()) {
    if (commandLine.includes('member/process')) process.kill(pid, 'SIGKILL');
  }
  process.kill(loading, 'SIGCONT');
  assert.is((await restoring).code, 1);
  await until(async () => (await pair.a.ask('list', '--name')) === '');
  assert.equal(readdirSync(memoryFolder()), []);
  asTold(await restored('1'));
});

function runs(domain: string): boolean {
  try {
    return pair.a.qemuPid(domain) > 0;
  } catch {
    return false;
  }
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !(await holds()); await delay(5)) {
    if (performance.now() > end) throw new Error('it did not come to be');
  }
}

test('an image that QEMU may not open is streamed to it, and the report says so', async () => {
  const images = readdirSync(join(pair.memory, 'umbra'), { recursive: true, encoding: 'utf8' });
  for (const name of images.filter((one) => /f0\/ram-0\.img$/.test(one))) {
    chmodSync(join(pair.memory, 'umbra', name), 0o400);
  }
  const [f0] = await restored();
  assert.is(f0?.mode, 'libvirt');
  assert.match(f0?.reason ?? '', /Permission denied/);
});

test.run();
