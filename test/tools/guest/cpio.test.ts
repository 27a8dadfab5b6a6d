import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type CpioEntry, cpioArchive } from '../../../tools/guest/cpio.ts';

interface Record {
  readonly name: string;
  readonly mode: string;
  readonly contents: string;
  readonly device: string;
}

/** Reads the format, independently of the writer. */
function read(archive: Buffer): Record[] {
  const records: Record[] = [];
  const aligned = (at: number) => Math.ceil(at / 4) * 4;
  for (let at = 0; at < archive.length; ) {
    const header = archive.toString('latin1', at, at + 110);
    assert.is(header.slice(0, 6), '070701', `magic at ${at}`);
    const field = (i: number) => Number.parseInt(header.slice(6 + 8 * i, 14 + 8 * i), 16);
    const [size, nameSize] = [field(6), field(11)];
    const name = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const body = aligned(at + 110 + nameSize);
    assert.is(archive[at + 110 + nameSize - 1], 0);
    records.push({
      name,
      mode: field(1).toString(8),
      contents: archive.toString('utf8', body, body + size),
      device: `${field(9)}:${field(10)}`,
    });
    at = aligned(body + size);
  }
  return records;
}

const entries: CpioEntry[] = [
  { type: 'link', path: 'bin', target: 'usr/bin' },
  { type: 'file', path: 'usr/bin/tool', contents: Buffer.from('tool'), executable: true },
  { type: 'file', path: 'etc/conf', contents: Buffer.from('12345'), executable: false },
  { type: 'device', path: 'dev/console', major: 5, minor: 1 },
];

test('every entry, with the folders above it before it, and the trailer last', () => {
  assert.equal(
    read(cpioArchive(entries)).map(({ name, mode }) => `${mode} ${name}`),
    [
      '120777 bin',
      '40755 dev',
      '20600 dev/console',
      '40755 etc',
      '100644 etc/conf',
      '40755 usr',
      '40755 usr/bin',
      '100755 usr/bin/tool',
      '0 TRAILER!!!',
    ],
  );
});

test('contents, targets and device numbers', () => {
  const records = new Map(read(cpioArchive(entries)).map((record) => [record.name, record]));
  assert.is(records.get('etc/conf')?.contents, '12345');
  assert.is(records.get('bin')?.contents, 'usr/bin');
  assert.is(records.get('dev/console')?.device, '5:1');
});

test('names and contents of every length stay aligned', () => {
  for (let n = 1; n < 10; n++) {
    const contents = Buffer.alloc(n, 'c');
    const path = 'f'.repeat(n);
    const archive = cpioArchive([{ type: 'file', path, contents, executable: false }]);
    assert.equal(read(archive)[0]?.contents, contents.toString(), `length ${n}`);
    assert.is(archive.length % 4, 0);
  }
});

test('the order of the input does not matter', () => {
  assert.equal(cpioArchive([...entries].reverse()), cpioArchive(entries));
});

test('two files of one name are an error', () => {
  assert.throws(() => cpioArchive([...entries, ...entries]), /two entries for bin/);
});

test.run();
