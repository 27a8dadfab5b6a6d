/** Real proxy processes, without VMs: started, asked, refused, killed, let go. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import * as assert from 'uvu/assert';
import { MemberProxy } from '../../../../proxy/agent/vms/member-proxy.ts';
import { isAlive, startTimeOf } from '../../../../proxy/host/known-process.ts';
import { programPath } from '../../../../proxy/host/program.ts';
import type { MemberLocation, MemberNotice } from '../../../../proxy/protocol/member.ts';
import { type Bundled, bundled, forkPlain } from '../../../support/bundled.ts';
import { failureOf } from '../../../support/failure-of.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const test = suite('member proxy');
const log = pino({ level: 'silent' });
const LIMIT_MS = 60_000;
let root = '';
let program: Bundled;
let restoreFork: () => void;
/** Started together, for it takes a while. */
let idle: MemberProxy;
let domain: MemberProxy;
let killed: MemberProxy;
let frozen: MemberProxy;

test.before(async () => {
  program = await bundled(programPath('proxy/member/process'));
  restoreFork = forkPlain();
  root = mkdtempSync(join(scratchFolder(), 'umbra-proxy-'));
  const libvirt = { uri: 'test:///none', domain: 'd0' };
  [idle, domain, killed, frozen] = await Promise.all([
    start('n0'),
    start('d0', { libvirt }),
    start('k0'),
    start('f0'),
  ]);
});
test.after(async () => {
  const all = [idle, domain, killed, frozen];
  for (const proxy of all) proxy.kill();
  await Promise.all(all.map(({ exited }) => exited));
  rmSync(root, { recursive: true, force: true });
  program.remove();
  restoreFork();
});

function start(member: string, more: Partial<MemberLocation> = {}): Promise<MemberProxy> {
  const directory = join(root, member);
  const location = { member, qmp: join(directory, 'qmp.sock'), directory, ...more };
  return MemberProxy.start(location, log, program.path);
}

async function until(isSo: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!isSo()) {
    if (performance.now() > end) throw new Error('it has not come to that');
    await delay(5);
  }
}

test('a proxy answers requests; failures carry code, member and where', async () => {
  assert.equal(await idle.request({ type: 'probe' }), {
    status: 'gone',
    running: false,
    qemuVersion: '',
  });
  assert.equal(await idle.request({ type: 'repair' }), { repaired: false });
  const failure = await failureOf(idle.request({ type: 'resume' }));
  assert.equal([failure.code, failure.member, failure.where], ['E_NOT_LOADED', 'n0', 'resume']);
  const examined = await failureOf(idle.request({ type: 'examine', workingDirectory: '/' }));
  assert.equal([examined.code, examined.where], ['E_QMP_CONNECT', 'examine']);
  assert.ok(examined.hint);
});

test('the proxy of a domain is ready when its monitor can be reached', async () => {
  const socket = createConnection(domain.location.qmp);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.destroy();
});

test('a monitor that cannot be made fails the start, with its code', async () => {
  const libvirt = { uri: 'test:///none', domain: 'e0' };
  const qmp = join(root, 'nowhere', 'qmp.sock');
  const failure = await failureOf(start('e0', { qmp, libvirt }));
  assert.equal(
    [failure.code, failure.member, failure.where],
    ['E_QMP_CONNECT', 'e0', 'open monitor'],
  );
  assert.match(failure.message, /cannot listen on/);
});

test('a killed proxy fails requests that wait, and those to come', async () => {
  process.kill(killed.pid, 'SIGSTOP'); // so that it does not answer first
  const waiting = failureOf(killed.request({ type: 'probe' }));
  killed.kill();
  assert.is((await waiting).code, 'E_PROXY_GONE');
  await killed.exited;
  assert.ok(killed.isGone);
  assert.is((await failureOf(killed.request({ type: 'probe' }))).code, 'E_PROXY_GONE');
  killed.command({ type: 'alive' }); // lost, and no error
});

test('signs of life are answered; a silence counts from the first that is not', async () => {
  frozen.command({ type: 'alive' });
  await until(() => frozen.silentForMs === 0);
  process.kill(frozen.pid, 'SIGSTOP');
  frozen.command({ type: 'alive' });
  await delay(100);
  frozen.command({ type: 'alive' });
  assert.ok(frozen.silentForMs >= 99);
  process.kill(frozen.pid, 'SIGCONT');
  await until(() => frozen.silentForMs === 0);
});

test('a request to a frozen proxy fails at its limit, and the proxy is killed', async () => {
  process.kill(frozen.pid, 'SIGSTOP');
  const failure = await failureOf(frozen.request({ type: 'probe' }, 200));
  assert.equal([failure.code, failure.member], ['E_PROXY_SILENT', 'f0']);
  await frozen.exited;
});

test('an abort of a round that the proxy does not know is reported as done', async () => {
  const notices: MemberNotice[] = [];
  idle.onNotice((notice) => notices.push(notice));
  idle.command({ type: 'abort', round: 'r1' });
  await until(() => notices.length > 0);
  assert.equal(notices, [{ type: 'report', round: 'r1', report: 'aborted', facts: {} }]);
});

test('a command of another version ends the proxy: it would miss what follows', async () => {
  domain.command({ type: 'explode', round: 'r1' } as never);
  await domain.exited;
});

test('an idle proxy leaves when its agent hangs up', async () => {
  const known = { pid: idle.pid, startTime: startTimeOf(idle.pid) ?? '' };
  assert.ok(isAlive(known));
  await idle.close();
  assert.not(isAlive(known));
});

test.run();
