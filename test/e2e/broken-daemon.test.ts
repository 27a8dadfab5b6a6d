/** Parts of a broken daemon break what they say, and nothing of it is shipped. */
import { execFileSync, fork } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  begin,
  COMMITTING,
  type MemberMilestone,
  type Round,
  STOPPING,
  step,
} from '../../proxy/coordinator/rounds/round.ts';
import { BrokenBarrier } from '../support/broken-barrier.ts';
import { parseParts } from '../support/broken-daemon.ts';
import { scratchFolder } from '../support/scratch.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const test = suite('broken daemon');

/** Begins a round as the runner does, and notes members that are let past ahead of the others. */
function brokenRound(): {
  report: (member: string, report: MemberMilestone) => Round;
  past: string[];
} {
  const past: string[] = [];
  let { round } = begin(['n0', 'n1']);
  const barrier = new BrokenBarrier(
    ['n0', 'n1'],
    (_round, member) => past.push(member),
    (notice) => {
      if (notice.type === 'report') ({ round } = step(round, notice));
    },
  );
  const report = (member: string, what: MemberMilestone) => {
    barrier.take({ type: 'report', round: 'r', member, report: what, facts: {} });
    return round;
  };
  for (const what of ['admitted', 'live'] as const) {
    for (const member of ['n0', 'n1']) report(member, what);
  }
  return { report, past };
}

test('a member is let past as soon as it has stopped, and the round still ends', () => {
  const { report, past } = brokenRound();
  assert.is(report('n0', 'stopped').state, STOPPING);
  assert.equal(past, ['n0'], 'n1 still runs');
  for (const beyond of ['resumed', 'drained', 'sealed'] as const) {
    assert.is(report('n0', beyond).state, STOPPING);
  }
  for (const its of ['stopped', 'resumed', 'drained'] as const) report('n1', its);
  assert.equal(past, ['n0', 'n1']);
  assert.is(report('n1', 'sealed').state, COMMITTING);
});

test('a part that does not exist is refused', () => {
  assert.equal(parseParts([]), []);
  assert.equal(parseParts(['barrier', 'hold']), ['barrier', 'hold']);
  assert.throws(() => parseParts(['barier']), /barier is none of barrier, hold/);
});

/** Returns what a proxy that has preloaded a module tells a QEMU 7.2, and takes its version for. */
async function askBroken(preload: string): Promise<{ told: string[]; said: string }> {
  const socket = join(scratchFolder(), `umbra-broken-${process.pid}.sock`);
  const told: string[] = [];
  const qemu = createServer((client) => {
    client.write(`{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}}\n`);
    client.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const { execute, id, arguments: options } = JSON.parse(line);
        told.push(options?.id === undefined ? execute : `${execute} ${options.id}`);
        client.write(`${JSON.stringify({ return: {}, id })}\n`);
      }
    });
  });
  await new Promise<void>((done) => qemu.listen(socket, done));
  const preloaded = ['--import', 'tsx', '--import', new URL(preload, import.meta.url).href];
  const child = fork(
    fileURLToPath(new URL('../support/ask-monitor.ts', import.meta.url)),
    [socket],
    {
      execArgv: preloaded,
    },
  );
  const said = await new Promise<string>((resolve, reject) => {
    child.once('message', (message) => resolve(String(message)));
    child.once('exit', () => reject(new Error('it ended without a word')));
  });
  qemu.close();
  rmSync(socket, { force: true });
  return { told, said };
}

test('a proxy without hold does not hold frames, though it is told that it does', async () => {
  const { told, said } = await askBroken('../support/broken-hold.ts');
  assert.equal(told, ['qmp_capabilities', 'migrate', 'object-del umbra-hold-net0']);
  assert.is(said, '7 7');
});

test('a proxy without foresight takes an old QEMU for a new one until it migrates', async () => {
  const { told, said } = await askBroken('../support/broken-foresight.ts');
  assert.is(said, '9 7');
  assert.equal(told.slice(1), [
    'object-add umbra-hold-net0',
    'migrate',
    'object-del umbra-hold-net0',
  ]);
});

test('nothing that is shipped can be broken', () => {
  for (const folder of ['proxy', 'qmp', 'shadow', 'policies', 'tools/cli', 'tools/testbed']) {
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const text = readFileSync(join(ROOT, folder, file), 'utf8');
      assert.not.match(text, /UMBRA_BREAK|isBroken/, file);
    }
  }
});

test('the program names a part that it does not know', () => {
  const program = fileURLToPath(new URL('../support/broken-daemon.ts', import.meta.url));
  const start = () =>
    execFileSync(process.execPath, ['--import', 'tsx', program, 'demo', 'barier'], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
  assert.throws(start, /barier is none of barrier, hold/);
});

test.run();
