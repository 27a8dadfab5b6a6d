import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { GUEST_FILES } from '../../tools/guest/command-line.ts';
import { GuestControl } from '../../tools/guest/control.ts';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { dirtyMemory, endMemory, verifyMemory } from '../../tools/testbed/dirty.ts';
import { GuestCluster, type GuestNode } from '../support/guest-cluster.ts';
import { GuestQmp } from '../support/guest-qmp.ts';
import { suite } from '../support/suite.ts';

/** Number of real guests on the switch. The tests run once with each installed QEMU. */
const nodes = 2;
const POLL_MS = 100;
const LIMIT_MS = 600_000;
/**
 * Time for which a VM is stopped. Its clock must jump by less; no slow host delays a guest so long.
 */
const STOPPED_MS = 6_000;
const JUMP_MS_MAX = 5_000;
/** Shell command that records its start and its end in a file. */
const UNANSWERED = 'touch /run/begun; sleep 2; echo unasked; touch /run/over';

/** @param jobs set to test a job's options as well: they do not depend on QEMU, once is enough */
function guestTests(qemu: QemuBinary, jobs: boolean): void {
  const test = suite(`guests on QEMU ${qemu.version}`);
  let cluster: GuestCluster;

  function node(index: number): GuestNode {
    const found = cluster.nodes[index];
    if (found === undefined) throw new Error(`no node ${index}`);
    return found;
  }

  async function sh(index: number, command: string): Promise<string> {
    const { output, exitCode } = await node(index).control.run(command);
    assert.is(exitCode, 0, `n${index}$ ${command}\n${output}`);
    return output;
  }

  async function ticker(index: number, command: 'show' | 'reset'): Promise<Map<string, string>> {
    const words = (await sh(index, `ticker ${command}`)).trim().split(' ');
    return new Map(words.map((word) => word.split('=') as [string, string]));
  }

  /** Returns the job's own verdict when it has ended: exit code and output of /job/verify. */
  async function verdict(): Promise<{ output: string; exitCode: number }> {
    for (const end = performance.now() + LIMIT_MS; ; await sleep(POLL_MS)) {
      const result = await node(0).control.run('/job/verify');
      if (result.exitCode !== 2 || performance.now() > end) return result;
    }
  }

  /** Waits until a command of the guest's shell succeeds. */
  async function until(index: number, condition: string): Promise<void> {
    for (const end = performance.now() + LIMIT_MS; ; await sleep(POLL_MS)) {
      if ((await node(index).control.run(condition)).exitCode === 0) return;
      assert.ok(performance.now() < end, `n${index}: it never came to: ${condition}`);
    }
  }

  test.before(async () => {
    cluster = await GuestCluster.boot({ nodes, qemu });
  });
  test.after(() => cluster?.close());

  test('reach each other by name', async () => {
    await sh(0, 'ping -c 2 -W 5 n1');
    await sh(1, 'ping -c 2 -W 5 n0');
    assert.is(await sh(1, 'hostname'), 'n1\n');
  });

  test('run commands faithfully', async () => {
    const { control } = node(0);
    const both = await control.run('printf a; printf b >&2; exit 7');
    assert.equal(both, { output: 'ab', exitCode: 7 });
    assert.equal(await control.run('kill -9 $$'), { output: '', exitCode: 137 });
    assert.is((await control.run('no-such-program')).exitCode, 127);
    const long = `${'x'.repeat(20_000)} ü\n'"$`;
    const quoted = long.replaceAll("'", `'\\''`);
    assert.is((await control.run(`printf %s '${quoted}'`)).output, long);
    assert.is((await control.run('seq 1 20000 | tail -c 6')).output, '20000\n');
  });

  test('run commands side by side, and do not wait for background processes', async () => {
    const { control } = node(0);
    const slow = control.run('sleep 3; echo slow');
    assert.is((await control.run('echo quick')).output, 'quick\n');
    await sh(0, 'sleep 1000 >/dev/null 2>&1 & echo $! >/run/sleeper');
    assert.is((await slow).output, 'slow\n');
    await sh(0, 'kill $(cat /run/sleeper)');
  });

  test('a command that takes too long leaves nothing running', async () => {
    const { control } = node(0);
    const runs = 'ps | grep -q "sleep 432[1]"';
    const enough = new AbortController();
    const endless = control.run('sleep 4321', { signal: enough.signal }).catch(() => {});
    await until(0, runs);
    enough.abort();
    await endless;
    await until(0, `! { ${runs}; }`);
    await control.run('sleep 4321', { timeoutMs: 300 }).catch(() => {});
    await until(0, `! { ${runs}; }`);
  });

  test('ticks, and draws a nonce of its own', async () => {
    const first = await ticker(0, 'reset');
    let second = first;
    for (const end = performance.now() + LIMIT_MS; performance.now() < end; ) {
      second = await ticker(0, 'show');
      if (Number(second.get('ticks')) >= Number(first.get('ticks')) + 5) break;
    }
    const other = await ticker(1, 'show');
    assert.match(first.get('nonce') ?? '', /^[0-9a-f]{32}$/);
    assert.is(first.get('nonce'), second.get('nonce'));
    assert.is.not(first.get('nonce'), other.get('nonce'));
    assert.ok(Number(second.get('ticks')) >= Number(first.get('ticks')) + 5);
    assert.is(second.get('monotonic_steps_back'), '0');
    assert.ok(Number(second.get('monotonic_gap_max_us')) >= 20_000);
  });

  test('dirty memory verifies itself', async () => {
    const log = '/run/dirty.log';
    await sh(1, dirtyMemory({ sizeMiB: 16, rateMiB: 20, pattern: 'random', log }));
    // Wait until some of its 4096 pages are newer than others: at first none are.
    while (/generation 0$/.test((await sh(1, verifyMemory(log))).trim()));
    await sh(1, endMemory(log));
    const lines = (await sh(1, `cat ${log}`)).trim().split('\n');
    assert.is(lines[0], 'dirty: ready, 4096 pages');
    assert.ok(lines.length >= 3, lines.join('\n'));
    for (const line of lines.slice(1)) {
      assert.match(line, /^dirty: verified 4096 pages, generation [0-9]+$/);
    }
    for (const line of lines.slice(-2)) assert.match(line, /generation [1-9][0-9]*$/);
  });

  test('stop and cont: the control channel survives, the clock stops', async () => {
    const { control, dir } = node(1);
    const before = await ticker(1, 'reset');
    const qmp = await GuestQmp.connect(join(dir, GUEST_FILES.qmp));
    await qmp.execute('stop');
    const asked = control.run('echo awake');
    await sleep(STOPPED_MS);
    await qmp.execute('cont');
    qmp.close();
    assert.is((await asked).output, 'awake\n');
    const after = await ticker(1, 'show');
    assert.is(after.get('nonce'), before.get('nonce'));
    assert.ok(Number(after.get('monotonic_gap_max_us')) < JUMP_MS_MAX * 1000, 'the clock jumped');
    await sh(0, 'ping -c 1 -W 5 n1');
  });

  test('saved, killed and restored: the same machine, on the same network', async () => {
    const before = await ticker(1, 'reset');
    // Output that the saved guest still has to send will reach a client that did not ask for it.
    await sh(1, 'rm -f /run/begun /run/over');
    const unanswered = node(1)
      .control.run(UNANSWERED)
      .catch(() => {});
    await until(1, '[ -e /run/begun ]');
    const file = join(cluster.dir, 'state');
    const qmp = await GuestQmp.connect(join(node(1).dir, GUEST_FILES.qmp));
    await qmp.save(file);
    qmp.close();
    await cluster.restore(1, file);
    await unanswered;
    const after = await ticker(1, 'show');
    assert.is(after.get('nonce'), before.get('nonce'));
    assert.ok(Number(after.get('ticks')) > Number(before.get('ticks')));
    assert.is(after.get('monotonic_steps_back'), '0');
    await sh(0, 'ping -c 2 -W 5 n1');
    await until(1, '[ -e /run/over ]');
    assert.equal(await node(1).control.run('echo mine'), { output: 'mine\n', exitCode: 0 });
  });

  test('the next client takes over from one that left in mid-command', async () => {
    const old = node(1);
    await sh(1, 'rm -f /run/begun /run/over');
    const unanswered = old.control.run(UNANSWERED).catch(() => {});
    await until(1, '[ -e /run/begun ]');
    old.control.close();
    await unanswered;
    const control = await GuestControl.connect(join(old.dir, GUEST_FILES.control));
    cluster.nodes[1] = { ...old, control };
    await until(1, '[ -e /run/over ]');
    assert.equal(await control.run('echo mine'), { output: 'mine\n', exitCode: 0 });
  });

  test('xdlu passes its own verification', async () => {
    assert.is((await node(0).control.run('/job/verify')).exitCode, 3);
    await sh(0, '/job/xdlu 6 120');
    const { output, exitCode } = await verdict();
    assert.is(exitCode, 0, output);
    assert.is(output, 'verify: passed: xdlu 6 120, rounds: 1\n');
  });

  test('a job runs until it gets the command to end, and verifies all rounds', async () => {
    await sh(0, '/job/xdlu 6 120 again');
    assert.is((await node(0).control.run('/job/verify')).exitCode, 2);
    assert.is((await sh(0, 'echo while it runs')).trim(), 'while it runs');
    await until(0, '[ $(cat /job/rounds) -ge 1 ]');
    assert.is((await node(0).control.run('/job/verify')).exitCode, 2, 'one round is not all of it');
    await until(0, '[ $(grep -c PASSED /job/out) -gt 6 ]'); // in the middle of another round
    await sh(0, '/job/end');
    const { output, exitCode } = await verdict();
    assert.is(exitCode, 0, output);
    const rounds = Number(await sh(0, 'cat /job/rounds'));
    assert.ok(rounds >= 2, `${rounds} rounds`);
    assert.is(output, `verify: passed: xdlu 6 120, rounds: ${rounds}\n`);
  });

  if (!jobs) {
    test.run();
    return;
  }

  test('a job with invalid options is refused', async () => {
    for (const job of [
      'xdlu',
      'xdlu 0 100',
      'xdlu 23 100',
      'xdlu 4 801',
      'xdlu x 1',
      'xdlu 4 9 x',
      'hpcc',
    ]) {
      assert.is((await node(0).control.run(`/job/${job}`)).exitCode, 2, job);
    }
  });

  test('the verification fails on a doctored result', async () => {
    await sh(0, 'cp /job/out /run/good');
    const doctored = [
      's/^\\(WALL .*\\)PASSED/\\1FAILED/',
      '1,/^WALL .*PASSED/s/^\\(WALL .*\\)PASSED/\\1FAILED/',
      '/^WALL/d',
      's/6 tests completed and passed/5 tests completed and passed/',
      's/0 tests completed and failed/1 tests completed and failed/',
      's/0 tests skipped/1 tests skipped/',
    ];
    for (const edit of doctored) {
      await sh(0, `sed '${edit}' /run/good >/job/out`);
      assert.is((await node(0).control.run('/job/verify')).exitCode, 1, edit);
    }
    await sh(0, 'cp /run/good /job/out; /job/verify');
    await sh(0, 'echo 1 >/job/rc');
    assert.is((await node(0).control.run('/job/verify')).exitCode, 1, 'exit code');
  });

  test.run();
}

const qemus = await findQemus();
if (qemus.length === 0) throw new Error('no QEMU here: node tools/setup/bootstrap.mjs');
for (const [index, qemu] of qemus.entries()) guestTests(qemu, index === 0);
