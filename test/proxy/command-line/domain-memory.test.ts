import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { domainMemory } from '../../../proxy/command-line/domain-memory.ts';

const UUID = '865ab0d3-17f3-4696-85e4-3d20d275b545';

const test = suite('domain memory');

/** Returns a command line as libvirt 9.0 writes it for a domain with <source type='file'/>. */
function line(backend: object, ...more: readonly string[]): string[] {
  return [
    '/usr/bin/qemu-system-x86_64',
    '-name',
    'guest=web,,1,debug-threads=on',
    '-S',
    '-machine',
    'pc-i440fx-7.2,usb=off,memory-backend=pc.ram',
    '-m',
    '160',
    '-object',
    '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/k"}',
    '-object',
    JSON.stringify(backend),
    '-uuid',
    UUID,
    '-display',
    'none',
    ...more,
  ];
}

const FILE = {
  'qom-type': 'memory-backend-file',
  id: 'pc.ram',
  'mem-path': '/var/lib/libvirt/qemu/ram/12-web,1/pc.ram',
  'x-use-canonical-path-for-ramblock-id': false,
  size: 167772160,
};

test('a file of the domain’s own: its path, without the number that changes', () => {
  assert.equal(domainMemory(line(FILE), 'pc.ram'), {
    folder: '/var/lib/libvirt/qemu/ram',
    name: 'web,1',
    alias: 'pc.ram',
    uuid: UUID,
  });
  assert.equal(domainMemory(line(FILE)), domainMemory(line(FILE), 'pc.ram'), 'by the machine');
});

const OBSTACLES: readonly (readonly [what: string, words: string[], why: RegExp])[] = [
  [
    'libvirt’s default',
    line({ ...FILE, 'qom-type': 'memory-backend-ram' }),
    /no file.*type='file'/,
  ],
  ['no backend at all', ['qemu', '-m', '64'], /no file/],
  ['of another name', line({ ...FILE, id: 'dimm0' }), /no file/],
  ['a memfd', line({ ...FILE, 'qom-type': 'memory-backend-memfd' }), /memfd.*type='file'/],
  ['shared', line({ ...FILE, share: true }), /shared.*access/],
  ['allocated at once', line({ ...FILE, prealloc: true }), /allocated at once/],
  ['huge pages', line({ ...FILE, 'mem-path': '/dev/hugepages/libvirt/qemu/12-web,1' }), /does not/],
  ['elsewhere', line({ ...FILE, 'mem-path': '/mnt/ram/pc.ram' }), /does not make: \/mnt/],
  ['a long name', line({ ...FILE, 'mem-path': '/r/12-web/pc.ram' }), /longer/],
  ['a balloon', line(FILE, '-device', '{"driver":"virtio-balloon-pci","id":"b"}'), /balloon/],
  ['NUMA', line(FILE, '-numa', 'node,nodeid=0,memdev=ram-node0'), /NUMA/],
];

for (const [what, words, why] of OBSTACLES) {
  test(`memory that cannot be mapped: ${what}`, () => {
    const found = domainMemory(words, 'pc.ram');
    assert.type(found, 'string');
    assert.match(String(found), why);
  });
}

test.run();
