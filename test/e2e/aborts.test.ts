/**
 * A process is killed, or freezes, at a named place of a round. In every case each remaining VM
 * runs again within the deadline, the previous epoch can be restored, and nothing of the round is
 * left.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { EpochInfo } from '../../proxy/protocol/epoch.ts';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';
import { tickers } from '../support/job.ts';
import { suite } from '../support/suite.ts';

/**
 * The round's stop deadline. An undisturbed round needs a fraction of it, even on a slow machine.
 */
const DEADLINE_MS = 12_000;
/** Additional time after which a VM that is still stopped counts as stopped for ever. */
const GRACE_MS = 120_000;

interface Case {
  readonly name: string;
  /** Set if nothing in it depends on QEMU: it runs with the newest one only. */
  readonly once?: true;
  readonly location: string;
  /** Process to kill while the one at `location` is frozen; with `none` that one stays frozen. */
  readonly victim: 'the frozen one' | 'QEMU of n0' | 'none';
  /** Code of the round's failure, unless the command loses its daemon. */
  readonly code: RegExp;
}

const CASES: readonly Case[] = [
  {
    name: 'proxy killed in the live phase',
    once: true,
    location: 'member/n0/live',
    victim: 'the frozen one',
    code: /E_PROXY_GONE/,
  },
  {
    name: 'proxy killed in the drain',
    location: 'member/n0/stopped',
    victim: 'the frozen one',
    code: /E_PROXY_GONE/,
  },
  {
    name: 'proxy frozen in the drain',
    location: 'member/n0/stopped',
    victim: 'none',
    code: /E_PROXY_GONE|E_STOP_DEADLINE/,
  },
  {
    name: 'QEMU killed in the live phase',
    once: true,
    location: 'member/n0/live',
    victim: 'QEMU of n0',
    code: /E_QMP_CLOSED|E_STREAM/,
  },
  {
    name: 'QEMU killed in the drain',
    location: 'member/n0/stopped',
    victim: 'QEMU of n0',
    code: /E_QMP_CLOSED|E_STREAM/,
  },
  {
    name: 'coordinator killed before the barrier',
    location: 'round/draining',
    victim: 'the frozen one',
    code: /E_DAEMON_LOST/,
  },
  {
    name: 'coordinator frozen before the barrier',
    once: true,
    location: 'round/draining',
    victim: 'none',
    code: /E_STOP_DEADLINE|E_MEMBER_ABORTED/,
  },
  {
    name: 'coordinator killed before it publishes',
    once: true,
    location: 'round/committing',
    victim: 'the frozen one',
    code: /E_DAEMON_LOST/,
  },
];

const qemus = await findQemus();

function aborts(qemu: QemuBinary): void {
  const test = suite(`aborts on QEMU ${qemu.version}`);
  let bed: Testbed;
  let nonces: string[] = [];
  let watches: VmWatch[] = [];

  test.before(async () => {
    const settings = { round: { stopDeadline: `${DEADLINE_MS}ms` } };
    bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu, settings, watch: true });
    await bed.up();
    nonces = (await tickers(bed)).map(({ nonce }) => nonce);
    await bed.json('checkpoint');
  });
  test.after(() => bed.dispose());
  test.after.each(() => {
    for (const watch of watches) watch.close();
    watches = [];
  });

  const isNewest = qemu === qemus.at(-1);
  for (const { name, location: where, victim, code } of CASES.filter(
    ({ once }) => isNewest || !once,
  )) {
    test(name, async () => {
      const pids = [bed.pid(0), bed.pid(1)];
      watches = await Promise.all([VmWatch.open(bed, 0), VmWatch.open(bed, 1)]);
      freezeAt(bed, where);
      const command = bed.umbra('checkpoint', '--json');
      const frozen = await frozenProcess(bed);
      const killsQemu = victim === 'QEMU of n0';
      if (killsQemu) process.kill(pids[0] ?? 0, 'SIGKILL');
      if (victim === 'the frozen one') process.kill(frozen, 'SIGKILL');
      if (killsQemu) process.kill(frozen, 'SIGCONT');

      const left = killsQemu ? watches.slice(1) : watches;
      await Promise.all(left.map((watch) => watch.running(DEADLINE_MS + GRACE_MS)));
      if (victim === 'none') thaw(frozen);
      const { code: status, stdout, stderr } = await command;
      assert.is(status, 1, `${stdout}${stderr}`);
      assert.match(stdout + stderr, code, `it said: ${stdout}${stderr}`);
      for (const watch of left) {
        assert.ok(await watch.isRunning());
        const stopped = watch.longestStopMs;
        assert.ok(stopped <= DEADLINE_MS, `a VM stood for ${stopped} ms`);
        process.stdout.write(`  ${name}: stood for ${Math.round(stopped)} ms\n`);
      }

      const { epochs } = await bed.json<{ epochs: EpochInfo[] }>('epochs');
      assert.equal(
        epochs.map(({ epoch }) => epoch),
        [1],
        'the previous epoch is the truth',
      );
      bed.hangUp();
      await bed.json('restore', '--replace', '--verify');
      assert.equal(
        (await tickers(bed)).map(({ nonce }) => nonce),
        nonces,
      );
      assert.is(
        readdirSync(join(bed.directory, 'shadows')).length,
        1,
        'nothing of the round stays',
      );
    });
  }

  test('and the next round commits', async () => {
    await bed.json('checkpoint');
    const { epochs } = await bed.json<{ epochs: EpochInfo[] }>('epochs');
    assert.equal(
      epochs.map(({ epoch }) => epoch),
      [1, 2],
    );
  });

  test('an interrupted restore is undone by the next daemon, and can be repeated', async () => {
    bed.hangUp();
    freezeAt(bed, 'restore/loaded');
    const command = bed.umbra('restore', '1', '--replace', '--json');
    const frozen = await frozenProcess(bed);
    const begun = [bed.pid(0), bed.pid(1)];
    process.kill(frozen, 'SIGKILL');
    assert.is((await command).code, 1);
    await bed.json('epochs'); // starts the daemon anew
    const alive = [...bed.processes().keys()];
    for (const pid of begun) assert.not(alive.includes(pid), 'half a cluster is no cluster');
    await bed.json('restore', '1');
    assert.equal(
      (await tickers(bed)).map(({ nonce }) => nonce),
      nonces,
    );
  });

  test('down leaves no process, no socket, no file', async () => {
    bed.hangUp();
    await bed.umbra('down', '--purge');
    assert.equal([...bed.processes().values()], []);
    assert.equal(readdirSync(bed.home).sort(), ['cluster.yaml']);
  });

  test.run();
}

/**
 * Continues a frozen process, unless it is gone: the agent may rightly have killed a frozen proxy.
 */
function thaw(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

for (const qemu of qemus) aborts(qemu);
