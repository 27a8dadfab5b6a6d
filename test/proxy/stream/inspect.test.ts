import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { formatReport } from '../../../tools/inspect/format.ts';
import { inspectStream } from '../../../tools/inspect/inspect.ts';
import { bundled } from '../../support/bundled.ts';
import * as b from './builder.ts';

const test = suite('the stream inspector');
const MAIN = fileURLToPath(new URL('../../../tools/inspect/main.ts', import.meta.url));

const stream = b.join(
  b.header,
  b.configuration('pc-i440fx-7.2'),
  b.openReturnPath,
  b.ramSections,
  b.DEVICES,
  b.vmdesc(b.DEVICES_JSON),
);

async function withFile(bytes: Buffer, body: (path: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'umbra-inspect-'));
  try {
    writeFileSync(join(dir, 'stream'), bytes);
    await body(join(dir, 'stream'));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test('a whole stream', () =>
  withFile(stream, async (path) => {
    const report = await inspectStream(path);
    assert.equal(report.phase, 'complete');
    assert.equal(report.error, undefined);
    assert.equal(report.machineType, 'pc-i440fx-7.2');
    assert.deepEqual(
      report.blocks.map(({ idstr, pages, zeroPages }) => [idstr, pages, zeroPages]),
      [
        ['pc.ram', 3, 3],
        ['vga.vram', 1, 1],
        ['/rom@etc/acpi/tables', 1, 0],
      ],
    );
    assert.equal(report.sectionCount, 9);
    assert.deepEqual(report.sections[0], { name: 'CONFIGURATION', offset: 8 });
    assert.deepEqual(
      report.devices.map(({ name, offset, length }) => [name, offset, length]),
      [
        ['timer', 0, b.TIMER.length],
        ['cpu', b.TIMER.length, b.CPU.length],
      ],
    );
    assert.equal(report.devicesExact, true);
    const text = formatReport(report);
    for (const line of [/ram PART × 3/, /^pc\.ram +32768 +3 +3$/m, /walked to the end/]) {
      assert.match(text, line);
    }
  }));

test('a refused stream is shown as far as it goes', () =>
  withFile(
    stream.subarray(0, stream.length - b.vmdesc(b.DEVICES_JSON).length - 3),
    async (path) => {
      const report = await inspectStream(path);
      assert.equal(report.error?.code, 'E_STREAM_TRUNCATED');
      assert.equal(report.phase, 'failed');
      assert.equal(report.blocks.length, 3);
      const text = formatReport(report);
      assert.match(text, /^refused +E_STREAM_TRUNCATED: /m);
      assert.match(text, /^DEVICES +not reached$/m);
    },
  ));

test('the program', () =>
  withFile(stream, async (path) => {
    const program = await bundled(MAIN);
    const run = (...args: string[]): ReturnType<typeof spawnSync> =>
      spawnSync(process.execPath, [program.path, ...args], { encoding: 'utf8' });
    const json = run('--json', path);
    assert.equal(json.status, 0);
    assert.equal(JSON.parse(String(json.stdout)).counters.normalPages, 5);
    assert.match(String(run(path).stdout), /^machine +pc-i440fx-7\.2, pages of 4096 bytes$/m);
    assert.equal(run('--background', path).status, 0);
    assert.equal(run(MAIN).status, 1);
    assert.match(String(run(`${path}.missing`).stderr), /ENOENT/);
    for (const args of [[], ['--nonsense', path], [path, path]]) {
      const wrong = run(...args);
      assert.equal(wrong.status, 2);
      assert.match(String(wrong.stderr), /^usage:/);
    }
    program.remove();
  }));

test.run();
