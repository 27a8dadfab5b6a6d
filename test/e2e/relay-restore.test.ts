/**
 * A VM that no libvirt runs has passed a relay, and is lost at both ends. It comes back as the
 * member it was, by map and by stream, as it was when it passed; the other member runs on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../proxy/config/config.ts';
import type { RestoreReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { RelayProcess } from '../../tools/testbed/relay-process.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

const test = suite('relay restore');
const LIMIT_MS = 300_000;
let bed: Testbed;
let relay: RelayProcess | undefined;
let destination: ChildProcess | undefined;

test.before(async () => {
  const qemu = await newestQemu();
  bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu, watch: true });
  await bed.up();
});
test.after(async () => {
  await relay?.kill();
  await end(destination);
  await bed.dispose();
});

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Connects to a monitor once its QEMU listens. */
async function monitorAt(path: string): Promise<QmpClient> {
  for (const limit = performance.now() + LIMIT_MS; ; await delay(50)) {
    try {
      return await QmpClient.connect(path);
    } catch (error) {
      if (performance.now() > limit) throw error;
    }
  }
}

/** Starts a QEMU like the first member's, which waits for a migration. */
async function startDestination(socket: string): Promise<ChildProcess> {
  const directory = join(bed.home, 'destination');
  mkdirSync(directory);
  const [member] = parseClusterConfig(readFileSync(bed.file, 'utf8'), bed.file, bed.home).members;
  const line = (member?.command ?? []).map((word) => {
    return word.replaceAll(member?.directory ?? '', directory);
  });
  const [program = '', ...words] = [...line, '-S', '-incoming', `unix:${socket}`];
  const env = { ...process.env, UMBRA_HOME: bed.home };
  const child = spawn(program, words, { env, stdio: 'ignore' });
  (await monitorAt(join(directory, 'qmp.sock'))).close();
  return child;
}

async function migrate(uri: string): Promise<void> {
  const monitor = await monitorAt(join(bed.memberDirectory(0), 'watch.sock'));
  const capabilities = [
    { capability: 'events', state: true },
    { capability: 'return-path', state: true },
  ];
  await monitor.execute('migrate-set-capabilities', { capabilities });
  const ended = new Promise((resolve) => {
    monitor.onEvent(({ name, data }) => {
      const { status } = data;
      if (name === 'MIGRATION' && (status === 'completed' || status === 'failed')) resolve(status);
    });
  });
  await monitor.execute('migrate', { uri });
  assert.is(await ended, 'completed');
  monitor.close();
}

test('the VM comes back from the relay’s epoch, and the other is left alone', async () => {
  await bed.shell(0, 'echo before > /run/marker');
  const other = bed.pid(1);
  const [listen, to] = [join(bed.home, 'in.sock'), join(bed.home, 'to.sock')];
  const store = join(bed.home, 'kept');
  const places = ['--listen', `unix://${listen}`, '--to', `unix://${to}`, '--name', 'n0'];
  relay = await RelayProcess.start(...places, '--shadow', store);
  destination = await startDestination(to);
  await migrate(`unix:${listen}`);
  const [report] = await relay.reports(1);
  assert.equal([report?.outcome, report?.shadow?.kept], ['completed', true]);
  await end(destination);
  bed.hangUp();
  process.kill(bed.pid(0), 'SIGKILL');
  for (const mode of ['map', 'stream']) {
    const words = ['restore', '--store', store, '--mode', mode, '--replace'];
    const { members } = await bed.json<RestoreReport>(...words);
    assert.equal(
      members.map((one) => [one.member, one.mode]),
      [['n0', mode]],
    );
    assert.is((await bed.shell(0, 'cat /run/marker')).trim(), 'before');
    await bed.shell(0, 'echo after > /run/marker');
    bed.hangUp();
  }
  assert.is(bed.pid(1), other);
  assert.is((await bed.shell(1, 'echo here')).trim(), 'here');
});

test.run();
