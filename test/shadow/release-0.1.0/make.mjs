/**
 * Writes files.tar.gz: one of each file that Umbra 0.1.0 leaves behind, written by its own code.
 * README.md says how to run it. It is plain JavaScript because it calls the code of a release and
 * not the code beside it.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [checkout] = process.argv.slice(2);
if (checkout === undefined) throw new Error('usage: make.mjs CHECKOUT-OF-0.1.0');
const shadow = await import(join(checkout, 'shadow/index.ts'));
const { Journal } = await import(join(checkout, 'proxy/member/journal.ts'));
const { RoundArchive } = await import(join(checkout, 'proxy/coordinator/round-archive.ts'));
const { reportRound } = await import(join(checkout, 'proxy/coordinator/report.ts'));

const PAGE = 4096;
/** RAM blocks of each member, in pages. */
const MEMBERS = { a: { 'pc.ram': 24, 'vga.vram': 4 }, b: { 'pc.ram': 16 } };
const DISKS = [{ device: 'hd0', layers: [{ path: '/vms/b.qcow2', format: 'qcow2' }] }];
const IDENTITY = {
  machineType: 'pc-i440fx-7.2',
  qemuVersion: '7.2.22',
  uuid: '5f0c3f52-0c0a-4d0e-9a53-0d5a1f6f0001',
  commandLine: ['/usr/bin/qemu-system-x86_64', '-machine', 'pc', '-m', '96K'],
  workingDirectory: '/vms',
};

const root = mkdtempSync('/dev/shm/umbra-release-');
const shadows = join(root, 'shadows');
const expected = { epochs: {} };
const quiet = () => {};

mkdirSync(shadows, { mode: 0o700 });
const catalogue = new shadow.Catalogue(join(root, 'epochs'), 'demo');
await catalogue.prepare();
for (const epoch of [1, 2, 3]) await take(epoch);
await catalogue.retire(1);
await shadow.collectLeftovers(shadows, catalogue, { recycle: true });
await shadow.pinEpoch(catalogue.directory, 3);
expected.recycled = readdirSync(join(shadows, 'spare')).length;

// A VM was restored from member a of epoch 2: its holes became memory, and were taken back.
const restored = join(shadows, roundOf(2), 'a');
shadow.markMapped(restored);
await shadow.populate(join(restored, 'ram-0.img'));
await shadow.reclaimHoles(await shadow.openShadow(restored));

const store = new shadow.DurableStore(join(root, 'durable', 'demo'), 'demo');
const pace = new shadow.Pace(undefined, { now: () => 0, sleep: async () => {} });
for (const epoch of (await catalogue.list()).epochs) {
  const options = { pace, onStep: quiet, onProgress: quiet, parallel: 1 };
  await store.persistShadows(epoch, shadows, options);
  await store.publish(epoch, quiet);
}
await store.pin(3, true);

keepJournals();
await keepReport();
writeFileSync(join(root, 'expected.json'), JSON.stringify(expected, null, 2));
const target = fileURLToPath(new URL('files.tar.gz', import.meta.url));
const tar = ['--sparse', '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '-czf'];
execFileSync('tar', [...tar, target, '-C', root, '.']);
rmSync(root, { recursive: true });

async function take(epoch) {
  const round = roundOf(epoch);
  const members = [];
  for (const [member, blocks] of Object.entries(MEMBERS)) {
    const layout = Object.entries(blocks).map(([idstr, pages]) => {
      return { idstr, length: pages * PAGE };
    });
    const location = { directory: join(shadows, round, member), member, round };
    const base = epoch === 3 && (await shadow.openShadow(join(shadows, roundOf(2), member)));
    const options = base
      ? { base, reservedBytes: PAGE, moreBytes: 64 * PAGE, headroomBytes: 0 }
      : undefined;
    const staged = await shadow.StagingShadow.reserve(location, layout, PAGE, options);
    const streamed = layout.map(({ idstr, length }) => ({ idstr, usedLength: length }));
    const images = staged.match(streamed);
    const digests = {};
    for (const [at, { idstr, length }] of layout.entries()) {
      const memory = memoryOf(member, idstr, length / PAGE, epoch);
      for (let offset = 0; offset < length; offset += PAGE) {
        const page = memory.subarray(offset, offset + PAGE);
        if (page.every((byte) => byte === 0)) images[at].zeroPage(offset);
        else images[at].writePage(offset, memory, offset);
      }
      images[at].flush();
      digests[idstr] = sha256Of(memory);
    }
    const deviceState = Buffer.from(`devices of ${member} in epoch ${epoch}`);
    const { sha256 } = await staged.seal({
      identity: { ...IDENTITY, name: member, ...(member === 'b' && { domainXml: '<domain/>' }) },
      configuration: Buffer.from(`configuration of ${member}`),
      deviceState,
      vmdesc: '{"page_size": 4096, "devices": []}',
    });
    members.push({ name: member, shadow: sha256, ...(member === 'b' && { disks: DISKS }) });
    if (epoch === 1) continue;
    expected.epochs[epoch] ??= {};
    expected.epochs[epoch][member] = { memory: digests, deviceState: sha256Of(deviceState) };
  }
  await catalogue.publish({
    format: 'umbra-epoch',
    version: 1,
    cluster: 'demo',
    epoch,
    round,
    createdAt: `2026-01-01T00:00:0${epoch}.000Z`,
    members,
  });
}

/** Every seventh page is zeros, two are noise, one differs from epoch to epoch. */
function memoryOf(member, idstr, pages, epoch) {
  const memory = Buffer.alloc(pages * PAGE);
  for (let page = 0; page < pages; page++) {
    if (page % 7 === 3) continue;
    const text = `${member} ${idstr} ${page} ${page % 5 === 1 ? epoch : ''}. `;
    const content = memory.subarray(page * PAGE, (page + 1) * PAGE);
    content.fill(text);
    if (page !== 1 && page !== 9) continue;
    for (let at = 0; at < PAGE; at += 32) {
      createHash('sha256').update(`${text}${at}`).digest().copy(content, at);
    }
  }
  return memory;
}

/** Of a precopy round of a, stopped; and of a background round of b, whose frames are held. */
function keepJournals() {
  const saved = {
    capabilities: [{ capability: 'return-path', state: false }],
    parameters: { 'max-bandwidth': 134217728, 'downtime-limit': 300 },
  };
  const processes = { vm: { pid: 4242, startTime: '1001' }, reader: { pid: 4243, startTime: '1002' } };
  for (const member of Object.keys(MEMBERS)) {
    mkdirSync(join(root, 'members', member), { recursive: true });
    const journal = new Journal(join(root, 'members', member));
    journal.write({ round: roundOf(4), stopping: false, saved });
    journal.note(true);
    if (member === 'a') continue;
    journal.hold(['net0']);
    journal.snapshot(processes.vm, processes.reader);
  }
  expected.saved = saved;
  expected.processes = processes;
}

async function keepReport() {
  const began = Date.parse('2026-01-01T00:00:03.000Z');
  const facts = {
    capture: 'background',
    captureReason: 'asked for',
    protocol: 'all stopped',
    writableDisks: ['hd0'],
    stoppedAtUs: (began + 900) * 1000,
    resumedAtUs: (began + 950) * 1000,
    liveMs: 900,
    drainMs: 40,
    sealMs: 5,
    passes: 3,
    repeatedPages: 12,
    storedBytes: 40_960,
    liveBytes: 98_304,
    drainBytes: 4096,
    stored: 'delta',
    flow: [{ state: 'live', fromMs: began, toMs: began + 905 }],
  };
  const summary = {
    round: roundOf(3),
    epoch: 3,
    startedAt: new Date(began).toISOString(),
    durationMs: 1000,
    endReason: 'all-first-pass',
    policy: 'parallel',
    failure: undefined,
    predictedDowntimeMs: 30,
    rawPredictedDowntimeMs: 20,
  };
  const members = new Map(Object.keys(MEMBERS).map((member) => [member, facts]));
  const report = reportRound(summary, members, new Map([['a', 30]]));
  await new RoundArchive(join(root, 'rounds')).add(report);
}

function roundOf(epoch) {
  return `r00000${epoch}-0123abcd`;
}

function sha256Of(data) {
  return createHash('sha256').update(data).digest('hex');
}
