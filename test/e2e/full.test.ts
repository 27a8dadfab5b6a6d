/**
 * A store that runs full, on a tmpfs of its own. A round is refused before anything is changed, or
 * aborted in the middle. The guests' job continues and committed epochs stay; once there is room
 * again, checkpoints succeed.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { endMemory, verifyMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import { suite } from '../support/suite.ts';

const MIB = 2 ** 20;
const MEMORY_MIB = 192;
const NODES = 2;
const STORE_MIB = 3 * NODES * MEMORY_MIB;
const HEADROOM_MIB = 4;
/** Log of a second process that writes to memory in a guest. */
const MORE = '/run/more.log';

const test = suite('full');
let store = '';
let bed: Testbed;

test.before(async () => {
  store = mkdtempSync('/dev/shm/umbra-full-');
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${STORE_MIB}m`, 'umbra-test', store]);
  const settings = { store: { directory: store, headroom: `${HEADROOM_MIB}MiB` } };
  const qemu = await newestQemu();
  bed = await Testbed.create({ nodes: NODES, memoryMiB: MEMORY_MIB, qemu, settings });
  await bed.up();
  await bed.dirty(0, { sizeMiB: 16, rateMiB: 10 });
  assert.is((await bed.json<RoundReport>('checkpoint')).outcome, 'committed');
});
test.after(async () => {
  await bed?.dispose();
  execFileSync('umount', [store]);
  rmSync(store, { recursive: true, force: true });
});

/** Fills the store but for this many bytes. */
function fill(leaveMiB: number): void {
  const { bavail, bsize } = statfsSync(store);
  const bytes = bavail * bsize - leaveMiB * MIB;
  execFileSync('fallocate', ['-l', String(bytes), join(store, 'ballast')]);
}

function empty(): void {
  rmSync(join(store, 'ballast'), { force: true });
}

async function refused(): Promise<Failure> {
  const { code, stdout } = await bed.umbra('checkpoint', '--json');
  assert.is(code, 1, stdout);
  return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure }).failure;
}

async function requireUnharmed(): Promise<void> {
  const { members, epochs } = await bed.json<ClusterStatus>('status');
  assert.ok(members.every(({ running }) => running));
  for (const { epoch } of epochs) await bed.json('verify', String(epoch));
  assert.match(await bed.shell(0, verifyMemory()), /verified/);
}

test('nearly full: refused with the missing bytes, before anything is changed', async () => {
  fill(12);
  const { code, missingBytes = 0, hint = '' } = await refused();
  assert.is(code, 'E_STORE_NO_ROOM');
  assert.ok(missingBytes > 0);
  assert.match(hint, 'umbra rm');
  await requireUnharmed();
  empty();
});

test('filled up in the middle of a round: only the round is aborted', async () => {
  await bed.dirty(1, { sizeMiB: 80, rateMiB: 200, log: MORE });
  freezeAt(bed, 'member/n1/live');
  const refusal = refused();
  const frozen = await frozenProcess(bed);
  fill(1);
  process.kill(frozen, 'SIGCONT');
  const failure = await refusal;
  assert.is(failure.code, 'E_STORE_NO_ROOM');
  assert.is(failure.member, 'n1');
  await requireUnharmed();
  empty();
});

test('with room again, checkpoints and restores succeed', async () => {
  await bed.shell(1, endMemory(MORE));
  assert.is((await bed.json<RoundReport>('checkpoint')).outcome, 'committed');
  bed.killAll();
  await bed.json('restore');
  await requireUnharmed();
});

test('a full catalogue: the round is not committed, and the previous epoch remains', async () => {
  const epochs = join(bed.directory, 'epochs');
  const before = await bed.json<ClusterStatus>('status');
  const manifests = readdirSync(epochs).map(
    (name) => [name, readFileSync(join(epochs, name))] as const,
  );
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'umbra-test', epochs]);
  try {
    for (const [name, bytes] of manifests) writeFileSync(join(epochs, name), bytes);
    const { bavail, bsize } = statfsSync(epochs);
    writeFileSync(join(epochs, 'ballast'), Buffer.alloc(bavail * bsize));
    const { code } = await refused();
    assert.is(code, 'E_STORE_NO_ROOM');
  } finally {
    execFileSync('umount', [epochs]);
  }
  const after = await bed.json<ClusterStatus>('status');
  assert.equal(after.epochs, before.epochs);
  await requireUnharmed();
});

test.run();
