/**
 * A memory budget is kept, by the kernel's own account of the store. A round that does not fit
 * fails with the missing bytes, or waits. Checkpoints are taken on a schedule. Memory is reused,
 * but never memory that a VM is running on.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { mappedImages } from '../../proxy/agent/store/mapped-holes.ts';
import type { Failure } from '../../proxy/failure/failure.ts';
import { readMaps } from '../../proxy/host/proc-maps.ts';
import type { EpochDetail } from '../../proxy/protocol/epoch.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { endMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

const MIB = 2 ** 20;
const MEMORY_MIB = 208;
const NODES = 2;
const IN_FLIGHT_MIB = 4;
/** Budget that fits a whole round, but not an epoch beside it. */
const WHOLE_MIB = NODES * (MEMORY_MIB + IN_FLIGHT_MIB) + 24;
const BLOCK_BYTES = 512;
const WATCH_MS = 10;
const LIMIT_MS = 300_000;
/** Log of a second process that writes to memory in a guest. */
const MORE = '/run/more.log';
/** Value of `foldAt` at which nothing is folded: no delta is so many times its base. */
const NEVER = 100;

const test = suite('budget');
let bed: Testbed;

test.before(async () => {
  bed = await Testbed.create({ nodes: NODES, memoryMiB: MEMORY_MIB, qemu: await newestQemu() });
  await bed.up();
  await bed.dirty(1, { sizeMiB: 48, rateMiB: 20 });
});
test.after(() => bed.dispose());

function budget(mebibytes: number, more: object = {}): Promise<void> {
  return bed.reconfigure({
    round: { inFlight: `${IN_FLIGHT_MIB}MiB` },
    store: { budget: `${mebibytes}MiB`, ...more },
    epochs: { keep: 1 },
  });
}

async function refused(): Promise<Failure> {
  const { code, stdout } = await bed.umbra('checkpoint', '--json');
  assert.is(code, 1);
  return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure }).failure;
}

/** Returns the bytes that the store's files occupy now, by st_blocks. */
function occupied(): number {
  const shadows = join(bed.directory, 'shadows');
  let bytes = 0;
  try {
    for (const name of readdirSync(shadows, { recursive: true, encoding: 'utf8' })) {
      const stats = statSync(join(shadows, name), { throwIfNoEntry: false });
      if (stats?.isFile()) bytes += stats.blocks * BLOCK_BYTES;
    }
  } catch {
    // a folder was removed during the walk; it is measured again soon
  }
  return bytes;
}

/** Lists the images that VMs have mapped, with the bytes they occupy. */
function imagesOfVms(): Map<string, number> {
  const pids = Array.from({ length: NODES }, (_, node) => bed.pid(node));
  const images = pids.flatMap((pid) => mappedImages(readMaps(pid)));
  return new Map(images.map(({ path }) => [path, occupiedBy(path)]));
}

function occupiedBy(path: string): number {
  return statSync(path).blocks * BLOCK_BYTES;
}

async function peakDuring(work: () => Promise<unknown>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, occupied());
  }, WATCH_MS);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return peak;
}

test('a budget of half the VMs’ memory is refused at once, with the missing bytes', async () => {
  const half = (NODES * MEMORY_MIB) / 2;
  await budget(half);
  const { code, missingBytes = 0, message } = await refused();
  assert.is(code, 'E_BUDGET_TOO_SMALL');
  assert.match(message, /^store\.budget: /);
  const [needed] = /needs (\d+) bytes/.exec(message)?.slice(1) ?? [];
  assert.is(missingBytes, Number(needed) + NODES * IN_FLIGHT_MIB * MIB - half * MIB);
  assert.is(occupied(), 0);
  const { members } = await bed.json<ClusterStatus>('status');
  assert.ok(members.every(({ running }) => running));
});

test('rounds complete within a budget for one, and the kernel counts no more bytes', async () => {
  const limit = 2 * NODES * MEMORY_MIB + 16;
  await budget(Math.ceil(limit));
  let kept = 0;
  const peak = await peakDuring(async () => {
    for (let count = 0; count < 3; count++) {
      const { outcome, storedBytes } = await bed.json<RoundReport>('checkpoint');
      assert.is(outcome, 'committed');
      kept += storedBytes;
    }
  });
  assert.ok(peak > kept / 2, 'the watch saw no round');
  assert.ok(peak <= limit * MIB, `${peak} bytes, ${limit * MIB} were allowed`);
});

test('memory of epochs counts: a round that does not fit beside them is refused', async () => {
  await budget(WHOLE_MIB, { delta: false });
  const { code, missingBytes = 0, hint = '' } = await refused();
  assert.is(code, 'E_BUDGET');
  assert.ok(missingBytes > 0);
  assert.match(hint, 'umbra rm');
});

test('a queued round begins when an epoch is removed', async () => {
  await budget(WHOLE_MIB, { delta: false, whenFull: 'queue' });
  const queued = bed.umbra('checkpoint');
  const { epochs } = await until((status) => status.queued !== undefined);
  await bed.json('rm', String(epochs.at(-1)?.epoch));
  const { code, stdout, stderr } = await queued;
  assert.is(code, 0, stderr);
  assert.match(stdout, /queued .*store\.budget/);
  assert.match(stdout, /epoch \d+ committed/);
});

test('a queued round is refused when its time limit ends', async () => {
  await budget(WHOLE_MIB, { delta: false, whenFull: 'queue', queueLimit: '1s' });
  assert.is((await refused()).code, 'E_BUDGET');
});

test('in the same budget, epochs that differ little fit, and occupy little', async () => {
  await budget(WHOLE_MIB);
  const before = occupied();
  const { outcome, storedBytes, members } = await bed.json<RoundReport>('checkpoint');
  assert.is(outcome, 'committed');
  assert.ok(members.every(({ stored }) => stored === 'delta'));
  assert.ok(storedBytes < before / 2, `${storedBytes} of ${before} bytes`);
  assert.ok(occupied() - before < 1.1 * storedBytes + (NODES * MEMORY_MIB * MIB) / 100);
});

test('a round that outgrows its admission is aborted; VMs and epochs are unchanged', async () => {
  const { epochs } = await bed.json<ClusterStatus>('status');
  const reserved = 2 * (48 * 1.25 + 16); // the last delta, and a margin
  await budget(occupied() / MIB + reserved + NODES * IN_FLIGHT_MIB);
  await bed.dirty(0, { sizeMiB: 90, rateMiB: 200, log: MORE });
  const { code, missingBytes = 0 } = await refused();
  assert.is(code, 'E_STORE_NO_ROOM');
  assert.ok(missingBytes > 0);
  const after = await bed.json<ClusterStatus>('status');
  assert.ok(after.members.every(({ running }) => running));
  assert.equal(after.epochs, epochs);
  assert.is((await bed.umbra('verify', String(epochs.at(-1)?.epoch))).code, 0);
  await bed.shell(0, endMemory(MORE));
});

test('memory is reused, but never memory a restored VM is running on', async () => {
  // Folding the epoch would leave the VMs on images without a name, whose holes cannot be reused.
  await bed.reconfigure({ store: { foldAt: NEVER }, epochs: { keep: 1 } });
  const { epoch } = await bed.json<RoundReport>('checkpoint');
  bed.killAll();
  const restored = await bed.json<RestoreReport>('restore', String(epoch), '--mode', 'map');
  assert.ok(restored.members.every(({ mode }) => mode === 'map'));
  const mapped = imagesOfVms();
  assert.is(mapped.size, NODES);
  for (let count = 0; count < 4; count++) {
    const { outcome } = await bed.json<RoundReport>('checkpoint');
    assert.is(outcome, 'committed');
    // A capture reads all of a VM's memory, including holes in the image it runs on.
    for (const [path, bytes] of mapped) assert.ok(occupiedBy(path) < bytes + MIB, path);
  }
  await bed.reconfigure({ store: { delta: false }, epochs: { keep: 1 } });
  for (let count = 0; count < 3; count++) await bed.json<RoundReport>('checkpoint');
  const spares = readdirSync(join(bed.directory, 'shadows', 'spare'));
  assert.ok(spares.length > 0, 'nothing was kept to be used again');
  assert.match(await bed.shell(1, endMemory()), /verified/);
});

test('a shadow in reused memory is as good as one in fresh memory', async () => {
  const { epochs } = await bed.json<ClusterStatus>('status');
  const { code } = await bed.umbra('verify', String(epochs.at(-1)?.epoch));
  assert.is(code, 0);
  bed.killAll();
  await bed.json('restore', '--mode', 'stream');
  assert.match(await bed.shell(1, endMemory()), /verified/);
});

test('checkpoints are taken at a fixed period', async () => {
  await bed.reconfigure({ checkpoint: { every: '1s' }, epochs: { keep: 2 } });
  const before = (await bed.json<ClusterStatus>('status')).epochs.at(-1)?.epoch ?? 0;
  const status = await until((one) => (one.epochs.at(-1)?.epoch ?? 0) >= before + 2);
  assert.ok(status.schedule !== undefined);
});

test('with the optimal interval, the first is taken at once, the next when it pays', async () => {
  // Failures so rare that even a very cheap checkpoint pays only after a long time.
  await bed.reconfigure({ checkpoint: { every: 'optimal', mtbf: '1000h' } });
  const { schedule } = await until((one) => /failures are/.test(one.schedule?.reason ?? ''));
  const waitMs = Date.parse(schedule?.nextAt ?? '') - Date.now();
  assert.ok(waitMs > 60_000, `${waitMs} ms`);
});

test('a scheduled checkpoint that fails is reported, and the schedule continues', async () => {
  await bed.reconfigure({ checkpoint: { every: '1s' } });
  bed.killAll();
  const { schedule } = await until((one) => one.schedule?.failure !== undefined);
  assert.match(schedule?.failure?.code ?? '', /^E_/);
  // By stream: VMs running on an image fill its holes with pages, an unmeasured amount of memory.
  await bed.json('restore', '--mode', 'stream');
  await until((one) => one.schedule !== undefined && one.schedule.failure === undefined);
});

test('pinned and recent epochs are kept, and the list gives the bytes of each', async () => {
  await bed.reconfigure({ store: { foldAt: NEVER }, epochs: { keep: 1 } });
  const take = async () => (await bed.json<RoundReport>('checkpoint')).epoch ?? 0;
  const list = async () => (await bed.json<{ epochs: EpochDetail[] }>('epochs')).epochs;
  const numbers = async () => (await list()).map(({ epoch }) => epoch);
  const first = await take();
  await bed.json('pin', String(first));
  await bed.json('down', '--keep-vms'); // the pin is the store's, not the daemon's
  const second = await take();
  const third = await take();
  assert.equal(await numbers(), [first, third], `${second} was neither the newest nor pinned`);
  const { failure } = JSON.parse((await bed.umbra('rm', String(first), '--json')).stdout) as {
    failure: Failure;
  };
  assert.is(failure.code, 'E_EPOCH_PINNED');
  assert.match(failure.hint ?? '', `umbra pin ${first} --off`);

  const epochs = await list();
  assert.equal(
    epochs.map(({ pinned }) => pinned),
    [true, false],
  );
  const total = epochs.reduce((sum, { space }) => sum + (space?.ownBytes ?? 0), 0);
  const shared = Math.max(...epochs.map(({ space }) => space?.sharedBytes ?? 0));
  const spares = readdirSync(join(bed.directory, 'shadows', 'spare')).reduce((sum, name) => {
    return sum + statSync(join(bed.directory, 'shadows', 'spare', name)).blocks * BLOCK_BYTES;
  }, 0);
  assert.is(total + shared, occupied() - spares, 'own and shared are all there is');
  assert.ok(epochs.every(({ ageMs = -1 }) => ageMs >= 0 && ageMs < 600_000));
  const { stdout } = await bed.umbra('epochs');
  assert.match(stdout, /PINNED +WHERE +AGE +OWN +SHARED/);

  await bed.json('pin', String(first), '--off');
  await bed.json('rm', String(first));
  assert.equal(await numbers(), [third]);
  await bed.reconfigure({ epochs: { keep: 1, keepFor: '10min' } });
  const fourth = await take();
  assert.equal(await numbers(), [third, fourth], 'both are young');
  await bed.reconfigure({ epochs: { keep: 1, keepFor: '1ms' } });
  const fifth = await take();
  assert.equal(await numbers(), [fifth]);
});

async function until(wanted: (status: ClusterStatus) => boolean): Promise<ClusterStatus> {
  for (const end = performance.now() + LIMIT_MS; ; ) {
    const status = await bed.json<ClusterStatus>('status');
    if (wanted(status)) return status;
    if (performance.now() > end) throw new Error(`not in time: ${JSON.stringify(status)}`);
  }
}

test.run();
