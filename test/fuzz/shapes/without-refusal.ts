/**
 * Shows what would have happened to a VM that was refused: QEMU alone saves it, and a QEMU with the
 * same command line loads that.
 *
 *     migrate file:… ─▶ killed ─▶ -incoming ─┬─ does not load: its own words
 *        └── fails: its own words            └─ loads: is it the same machine?
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describeMachine } from '../../../proxy/member/qemu/machine.ts';
import { QmpClient } from '../../../qmp/index.ts';
import type { ShapeVm } from '../../support/shape.ts';

/** Ends what would never end. */
const LIMIT_MS = 60_000;
const LOOK_MS = 20;
/** The section that says what a stream's device state is made of (migration/savevm.c). */
const DESCRIPTION = Buffer.from('{"page_size":');

/** Saves and loads a VM that was refused. @returns the end of that, in words */
export async function withoutRefusal(vm: ShapeVm, line: readonly string[]): Promise<string> {
  const stream = join(vm.folder, 'stream');
  const owner = join(vm.folder, 'owner.sock');
  const monitor = await QmpClient.connect(owner, { timeoutMs: LIMIT_MS });
  const before = await describeMachine(monitor);
  // A sandbox may forbid what `exec` takes; before 8.2 there is nothing else.
  const { major, minor } = monitor.version;
  const isOld = major < 8 || (major === 8 && minor < 2);
  const saved = await migrate(monitor, isOld ? `exec:cat > ${stream}` : `file:${stream}`);
  monitor.close();
  const ended = once(vm.qemu, 'exit');
  vm.qemu.kill('SIGKILL');
  await ended;
  if (saved !== 'completed') return `QEMU does not save it: ${saved}`;
  for (const name of ['qmp', 'owner', 'serial']) {
    rmSync(join(vm.folder, `${name}.sock`), { force: true });
  }
  const [program = '', ...words] = line;
  const log = openSync(vm.log, 'w');
  const incoming = ['-S', '-incoming', isOld ? `exec:cat ${stream}` : `file:${stream}`];
  const loading = spawn(program, [...words, ...incoming], { stdio: ['ignore', log, log] });
  const exited = once(loading, 'exit').then(() => undefined);
  exited.catch(() => {});
  loading.on('error', () => {});
  try {
    const after = await Promise.race([loaded(owner), exited]);
    if (after === undefined) return `it does not load: ${vm.lastWords().trim()}`;
    const names = ({ devices, media }: typeof before) => [
      ...devices.map(({ driver, id }) => `${driver} ${id}`),
      ...media.map(({ drive, file }) => `${drive}: ${file}`),
    ];
    const [was, is] = [names(before), names(after)];
    const lost = was.filter((one) => !is.includes(one));
    const more = is.filter((one) => !was.includes(one));
    if (lost.length + more.length > 0) {
      return `it loads as another machine: lost ${lost.join(', ')}; has ${more.join(', ')}`;
    }
    const content = readFileSync(stream);
    return content.includes(DESCRIPTION)
      ? 'it loads, and is the same machine'
      : 'its stream does not describe itself';
  } finally {
    loading.kill('SIGKILL');
    await exited.catch(() => {});
  }
}

async function migrate(monitor: QmpClient, uri: string): Promise<string> {
  const states = await monitor.execute('query-migrate-capabilities');
  const capabilities = states
    .filter(({ state }) => state)
    .map(({ capability }) => ({ capability, state: false }));
  await monitor.execute('migrate-set-capabilities', { capabilities }).catch(() => {});
  const plain = { 'tls-creds': '', 'max-bandwidth': 2 ** 40, mode: 'normal' };
  for (const [name, value] of Object.entries(plain)) {
    await monitor.execute('migrate-set-parameters', { [name]: value }).catch(() => {});
  }
  try {
    await monitor.execute('migrate', { uri });
  } catch (error) {
    return (error as Error).message;
  }
  for (;;) {
    const { status, ...more } = await monitor.execute('query-migrate');
    if (status === 'completed') return status;
    if (status === 'failed') return String((more as { 'error-desc'?: string })['error-desc']);
    await delay(LOOK_MS);
  }
}

/** Returns the machine, once it is loaded. */
async function loaded(socket: string) {
  for (const end = performance.now() + LIMIT_MS; performance.now() < end; await delay(LOOK_MS)) {
    const monitor = await QmpClient.connect(socket, { timeoutMs: LIMIT_MS }).catch(() => undefined);
    if (monitor === undefined) continue;
    try {
      const { status } = await monitor.execute('query-status');
      if (status !== 'inmigrate') return await describeMachine(monitor);
    } catch {
      // it has ended, which is awaited elsewhere
    } finally {
      monitor.close();
    }
  }
  throw new Error('it neither loads nor ends');
}
