import { endianness } from 'node:os';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { saveImageHead } from '../../../proxy/libvirt/save-image.ts';

const xml = '<domain type="kvm"><name>é</name></domain>\n';

test('the head: header, XML, NUL, and the stream at a multiple of 64 KiB', () => {
  const head = saveImageHead(xml);
  assert.is(head.length % 65_536, 0);
  assert.is(head.toString('latin1', 0, 16), 'LibvirtQemudSave');
  const little = endianness() === 'LE';
  const u32 = (at: number) => (little ? head.readUInt32LE(at) : head.readUInt32BE(at));
  assert.equal(
    [16, 20, 24, 28, 32].map(u32),
    [2, head.length - 92, 1, 0, 0],
    'version, data length, was running, raw, no cookie',
  );
  const text = Buffer.from(xml);
  assert.ok(head.subarray(92, 92 + text.length).equals(text));
  assert.ok(head.subarray(92 + text.length).every((byte) => byte === 0));
});

test('XML that ends just there still has its NUL', () => {
  const fill = (count: number) => `<domain>${' '.repeat(count)}</domain>`;
  const most = 65_536 - 92 - 1 - fill(0).length;
  assert.is(saveImageHead(fill(most)).length, 65_536);
  assert.is(saveImageHead(fill(most + 1)).length, 131_072);
});

test('XML that describes no domain is refused', () => {
  const wrong = ['', '<network/>', '<domain>', `<domain>\0</domain>`, `<domains></domains>`];
  for (const text of [...wrong, `<domain>${' '.repeat(9 * 2 ** 20)}</domain>`]) {
    try {
      saveImageHead(text);
      assert.unreachable(text.slice(0, 40));
    } catch (error) {
      assert.is((error as { code?: string }).code, 'E_LIBVIRT_XML');
    }
  }
});

test.run();
