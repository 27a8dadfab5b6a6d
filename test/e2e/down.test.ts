/** `umbra down` and `umbra doctor` where the daemon is dead, frozen, or has left its socket. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isAlive, type KnownProcess, recordedProcess } from '../../proxy/host/pid-file.ts';
import { apiSocket, daemonPidFile } from '../../proxy/host/private-socket.ts';
import { umbraCommand } from '../../tools/testbed/testbed.ts';
import { scratchFolder } from '../support/scratch.ts';

const test = suite('down and doctor without a daemon that answers');
let home = '';

test.before.each(() => {
  home = mkdtempSync(join(scratchFolder(), 'umbra-down-'));
});
test.after.each(() => {
  umbra('down', '-c', 'demo', '--purge');
  rmSync(home, { recursive: true, force: true });
});

function umbra(...words: string[]): { readonly status: number | null; readonly stdout: string } {
  const env = { ...process.env, UMBRA_HOME: home };
  const [program, ...first] = umbraCommand();
  return spawnSync(program, [...first, ...words, '--json'], { encoding: 'utf8', env });
}

/** Starts a cluster without VMs. @returns its daemon */
function up(): KnownProcess {
  const file = join(home, 'cluster.yaml');
  writeFileSync(file, '{cluster: demo, members: [{name: a, qmp: /x}]}');
  const { status, stdout } = umbra('up', file, '--no-boot');
  assert.is(status, 0, stdout);
  const daemon = recordedProcess(daemonPidFile(join(home, 'demo')));
  assert.ok(daemon, 'its daemon runs');
  return daemon;
}

function daemonAsFound(): string {
  const { findings } = JSON.parse(umbra('doctor').stdout) as {
    findings: { check: string; found: string }[];
  };
  return findings.find(({ check }) => check === 'demo: daemon')?.found ?? 'not looked at';
}

function requireDown(): void {
  const { status, stdout } = umbra('down');
  assert.is(status, 0, stdout);
  assert.equal(JSON.parse(stdout), { cluster: 'demo', stopped: [], purged: false });
}

test('a daemon that works is asked to end', () => {
  const daemon = up();
  assert.is(daemonAsFound(), 'answers');
  requireDown();
  assert.not(isAlive(daemon));
  assert.not(existsSync(apiSocket(join(home, 'demo'))), 'it has tidied up');
  requireDown();
});

test('a daemon that was killed has left its socket: nothing is waited for', () => {
  const daemon = up();
  process.kill(daemon.pid, 'SIGKILL');
  while (isAlive(daemon)) spawnSync('sleep', ['0.01']);
  assert.ok(existsSync(apiSocket(join(home, 'demo'))));
  assert.match(daemonAsFound(), 'does not run');
  requireDown();
});

test('a daemon that is frozen is killed', () => {
  const daemon = up();
  process.kill(daemon.pid, 'SIGSTOP');
  assert.match(daemonAsFound(), 'does not answer');
  requireDown();
  assert.not(isAlive(daemon));
});

test.run();
