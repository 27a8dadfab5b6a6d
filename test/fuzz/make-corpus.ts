/**
 * Makes the valid seeds:   node --import tsx test/fuzz/make-corpus.ts
 *
 * Streams and monitor lines come from real QEMUs (`-M none`: memory, hardly a device), stored files
 * from the code that stores them; the rest is as operators and guests write it. Seeds that once
 * broke a promise are not made here: the fuzzer found them.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { deflateSync } from 'node:zlib';
import { RoundArchive } from '../../proxy/coordinator/rounds/round-archive.ts';
import { reportRound } from '../../proxy/coordinator/rounds/round-report.ts';
import { DURABLE_FORMAT } from '../../shadow/durable/durable-manifest.ts';
import { writeContainer } from '../../shadow/durable/writer.ts';
import { wrap } from '../../shadow/envelope.ts';
import { makeEpochManifest } from '../../shadow/manifest.ts';
import { encodeIndex } from '../../shadow/page-index.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import * as b from '../proxy/stream/builder.ts';
import { scratchFolder } from '../support/scratch.ts';
import { addSeed } from './corpus.ts';
import { KEY, WRITE_OPTIONS } from './targets/container.ts';
import { sealSmall } from './targets/small-shadow.ts';

const scratch = mkdtempSync(join(scratchFolder(), 'umbra-corpus-'));
const at = (name: string): string => join(scratch, name);
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));

await realQemus();
builtStreams();
await stored();
guestsAndRelays();
process.exit();

/** Records the monitor lines and the stream of a machine without devices. */
async function realQemus(): Promise<void> {
  for (const { version, binary, args } of await findQemus()) {
    const name = `qemu-${version}`;
    const words = [...args, '-M', 'none', '-m', '1M', '-display', 'none', '-S'];
    const qemu = spawn(binary, [...words, '-qmp', `unix:${at('qmp')},server=on,wait=off`]);
    while (!existsSync(at('qmp'))) await delay(20);
    const socket = connect(at('qmp'));
    let said = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const ask = async (execute: string, args: object = {}) => {
      socket.write(`${JSON.stringify({ execute, arguments: args, id: 1 })}\n`);
      await delay(300);
    };
    await ask('qmp_capabilities');
    await ask('query-status');
    await ask('cont');
    await ask('stop');
    await ask('migrate', { uri: `exec:cat >${at('stream')}` });
    while (!said.includes('completed')) await ask('query-migrate');
    socket.destroy();
    qemu.kill('SIGKILL');
    rmSync(at('qmp'));
    addSeed('stream', name, readFileSync(at('stream')));
    addSeed('relay', name, readFileSync(at('stream')));
    addSeed('qmp', name, said);
    addSeed('qmp-client', name, said);
    const lines = said.trim().split('\r\n');
    const event = `event STOP at 1700000000.123456 for domain 'web1': {"by": "us"}`;
    addSeed(
      'libvirt-lines',
      name,
      [...lines, event, "event RESUME at 1.2 for domain 'd': <null>"].join('\n'),
    );
  }
}

/** Builds streams that together hold every item the decoder knows. */
function builtStreams(): void {
  const begin = b.join(b.header, b.configuration('pc-i440fx-7.2', b.uuid), b.openReturnPath);
  const finish = b.join(b.DEVICES, b.vmdesc(b.DEVICES_JSON));
  const streams: Readonly<Record<string, Buffer>> = {
    plain: b.join(begin, b.ramSections, finish),
    packed: b.join(
      begin,
      b.start(b.join(b.blockList(b.BLOCKS), b.EOS)),
      b.part(
        b.page(0, b.pattern(1), 'pc.ram'),
        b.xbzrle(0, b.u8(0, 2, 1, 2, 0x83, 0x01, 3, 9, 9, 9)),
        b.zlibPage(4096, deflateSync(b.pattern(2))),
        b.zero(0, 'vga.vram', 0x55),
      ),
      b.command(11),
      b.end(b.zero(0, 'pc.ram'), b.zero(4096), b.xbzrle(4096, b.u8(5, 1, 7))),
      finish,
    ),
    'ignore-shared': b.join(
      b.header,
      b.configuration('virt', b.pageBits(12), b.capabilities('x-ignore-shared')),
      b.start(b.join(b.blockList([{ name: 'mach-virt.ram', pages: 9, address: 2 ** 30 }]), b.EOS)),
      b.end(b.zero(4096, 'mach-virt.ram')),
      b.DEVICES,
    ),
    unfinished: b.join(b.header, b.start(b.join(b.blockList(b.BLOCKS), b.EOS)), b.part(), finish),
  };
  for (const [name, stream] of Object.entries(streams)) {
    addSeed('stream', name, stream);
    addSeed('relay', name, stream);
  }
}

async function stored(): Promise<void> {
  const files = await sealSmall(at('shadows'));
  for (const file of files) {
    const content = readFileSync(at(join('shadows', file)));
    const seed = Buffer.concat([Buffer.from(`${file}\0`), content]);
    addSeed('shadow', `whole-${file.replaceAll('/', '-')}`, seed);
    if (file.endsWith('.json')) addSeed('manifest', file.replaceAll('/', '-'), content);
    if (file.endsWith('.idx')) addSeed('page-index', file.replaceAll('/', '-'), content);
    if (!file.endsWith('.img') && !file.endsWith('.json')) continue;
    const container = at('container');
    const footer = await writeContainer(at(join('shadows', file)), container, KEY, WRITE_OPTIONS);
    addSeed('container', file.replaceAll('/', '-'), readFileSync(container));
    const name = { round: 'r000001-0123abcd', member: 'a', shadow: 'f'.repeat(64) };
    const contained = [{ file: 'ram-0.img', bytes: content.length, footer }];
    const durable = {
      format: DURABLE_FORMAT.name,
      version: DURABLE_FORMAT.version,
      ...name,
      files: contained,
    };
    addSeed('manifest', 'durable.json', wrap(durable));
  }
  const entries = Int32Array.from([0, 1, -2, 3]);
  const index = { pageSize: 4096, entries, slots: 4, checksums: Uint32Array.from([7]) };
  addSeed('page-index', 'full-4', encodeIndex(index));
  const member = { name: 'n0', shadow: 'a'.repeat(64) };
  const epoch = makeEpochManifest({
    cluster: 'demo',
    epoch: 7,
    round: 'r000007-0123abcd',
    createdAt: '2030-01-01T00:00:00.000Z',
    members: [member],
  });
  addSeed('manifest', 'epoch.json', wrap(epoch));
  addSeed('manifest', 'requires.json', wrap({ ...epoch, requires: ['stripes'] }));
  const disks = [{ device: 'hd0', layers: [{ path: '/vm/disk.raw', format: 'raw' }] }];
  addSeed('manifest', 'disks.json', wrap({ ...epoch, members: [{ ...member, disks }] }));
  const archive = new RoundArchive(at('rounds'));
  const round = 'r000007-0123abcd';
  for (const capture of ['precopy', 'background'] as const) {
    await archive.add(reportOf(round, capture));
    addSeed('report', capture, readFileSync(at(`rounds/${round}.json`)));
  }
  writeFileSync(at('sparse'), '');
  execFileSync('truncate', ['-s', '1M', at('sparse')]);
  await writeContainer(at('sparse'), at('container'), KEY, WRITE_OPTIONS);
  addSeed('container', 'a-hole', readFileSync(at('container')));
}

function reportOf(round: string, capture: 'precopy' | 'background') {
  const began = Date.parse('2030-01-01T00:00:00.000Z');
  const facts = {
    capture,
    captureReason: 'wished for',
    cut: 'all-stopped' as const,
    waitedShare: 0.25,
    writableDisks: ['hd0'],
    stoppedAtUs: (began + 900) * 1000,
    resumedAtUs: (began + 950) * 1000,
    liveMs: 900,
    drainMs: 40,
    sealMs: 5,
    heldMs: 100,
    passes: 3,
    repeatedPages: 12,
    storedBytes: 2 ** 20,
    liveBytes: 2 ** 28,
    drainBytes: 2 ** 20,
    stored: 'delta' as const,
    flow: [{ state: 'live' as const, fromMs: began, toMs: began + 905 }],
  };
  const summary = {
    round,
    epoch: 7,
    startedAt: new Date(began).toISOString(),
    durationMs: 1000,
    endReason: 'all-first-pass',
    policy: 'parallel',
    failure: undefined,
    predictedDowntimeMs: 30,
    rawPredictedDowntimeMs: 20,
  };
  return reportRound(summary, new Map([['n0', facts]]), new Map([['n0', 30]]));
}

function guestsAndRelays(): void {
  const rp = (type: number, payload: Buffer): Buffer =>
    b.join(b.be16(type), b.be16(payload.length), payload);
  const pong = rp(2, b.be32(7));
  addSeed('return-path', 'loaded', b.join(pong, rp(7, Buffer.alloc(0)), rp(1, b.be32(0))));
  addSeed('return-path', 'refused', b.join(rp(1, b.be32(1))));
  addSeed('relay', 'multifd', Buffer.from('1122334400000001', 'hex'));
  addSeed('relay', 'tls', Buffer.from('16030100', 'hex'));
  addSeed('relay', 'address', 'tcp://[fe80::1]:49152');
  const frame = (length: number): Buffer => b.join(b.be32(length), Buffer.alloc(length, 0x52));
  addSeed('switch', 'frames', b.join(frame(14), frame(60), frame(1514), frame(0)));
  const said = '::ready\n::out 1-a aGVsbG8=\n::rc 1-a 0\n::no 2-b busy\nnoise\n::rc 3-c 137\n';
  addSeed('guest-control', 'replies', said);
  const answers =
    '{"return":{}}\n\xff{"return":7}\n\xff{"return":4711}\n{"return":1700000000000000000}\n';
  const refusal = '{"error":{"class":"GenericError","desc":"no clock"}}\n';
  addSeed('guest-agent', 'port', Buffer.from(answers + refusal, 'latin1'));
  const refused = "error: unable to execute QEMU agent command 'guest-set-time': no clock\n";
  addSeed('guest-agent', 'virsh', `virsh # qemu-agent-command\n{"return":17}\n${refused}`);
}
