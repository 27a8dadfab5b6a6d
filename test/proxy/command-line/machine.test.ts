import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseConfig } from '../../../proxy/command-line/config-file.ts';
import { machineChanges } from '../../../proxy/command-line/machine-changes.ts';
import { withMedia } from '../../../proxy/command-line/media.ts';
import { neededFiles } from '../../../proxy/command-line/needed-files.ts';
import {
  formatOptions,
  inForeground,
  parseOptions,
} from '../../../proxy/command-line/option-list.ts';
import { proofCommandLine } from '../../../proxy/command-line/proof-line.ts';
import { withReconnect } from '../../../proxy/command-line/reconnect.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import type { Machine } from '../../../shadow/index.ts';

const test = suite('a machine and its options');
const FOLDER = '/vm';

function options(text: string) {
  return parseOptions(text.split(' ').filter((word) => word !== ''));
}

function machine(facts: Partial<Machine> = {}): Machine {
  return {
    type: 'pc',
    mainRam: 'pc.ram',
    balloon: false,
    devices: [],
    statefulNetworks: [],
    media: [],
    ...facts,
  };
}

test('a file of options is read as options', () => {
  const text = `
# comment
[device "nic0"]
  driver = "virtio-net-pci"
  netdev = "a,b"
[machine]
  type = "pc"
`;
  assert.equal(parseConfig(text), [
    { name: 'device', value: 'id=nic0,driver=virtio-net-pci,netdev=a,,b' },
    { name: 'machine', value: 'type=pc' },
  ]);
});

test('what no file of options is gives none', () => {
  assert.equal(parseConfig('x = "y"\n[\n]\n\0'), []);
});

const CHANGES: readonly (readonly [line: string, devices: Machine['devices'], says: string[]])[] = [
  ['-device virtio-rng-pci,id=r', [{ id: 'r', driver: 'virtio-rng-pci', plugged: false }], []],
  [
    '-m 64',
    [{ id: 'n1', driver: 'virtio-net-pci', plugged: true }],
    ['virtio-net-pci n1 was plugged in'],
  ],
  ['-m 64', [{ id: '', driver: 'pc-dimm', plugged: true }], ['pc-dimm was plugged in']],
  ['-device {"driver":"usb-kbd","id":"k"}', [], ['usb-kbd k was taken out']],
  [
    '-device usb-kbd -device usb-kbd',
    [{ id: '', driver: 'usb-kbd', plugged: false }],
    ['of 2 devices without id, 1 are left'],
  ],
  // A drive makes a device, too.
  ['-drive if=virtio', [{ id: '', driver: 'virtio-blk-pci', plugged: false }], []],
  // Not there until its primary asks for it.
  ['-device virtio-net-pci,id=s,failover_pair_id=p', [], []],
];

for (const [line, devices, says] of CHANGES) {
  test(`changes of ${line}: ${says.join() || 'none'}`, () => {
    assert.equal(machineChanges(options(line), machine({ devices })), says);
  });
}

test('a network backend with a state of its own is a change, if no option has made it', () => {
  const line = options('-netdev user,id=a -nic user,id=b -netdev stream,id=c');
  assert.equal(machineChanges(line, machine({ statefulNetworks: ['a', 'b'] })), []);
  const [change] = machineChanges(line, machine({ statefulNetworks: ['a', 'd'] }));
  assert.match(change ?? '', /backend d \(user\) was added/);
});

const MEDIA: readonly (readonly [before: string, media: readonly string[], after: string])[] = [
  ['-cdrom /vm/a.iso', ['/vm/a.iso'], '-cdrom /vm/a.iso'],
  ['-cdrom a.iso', ['/vm/a.iso'], '-cdrom a.iso'],
  ['-cdrom a.iso', [''], '-drive if=ide,index=2,media=cdrom'],
  ['-cdrom a.iso', ['/vm/b.iso'], '-drive if=ide,index=2,media=cdrom,file=/vm/b.iso'],
  ['-fda a.img', [''], '-drive if=floppy,index=0'],
  ['-drive media=cdrom,file=a.iso,id=c', [''], '-drive media=cdrom,id=c'],
  [
    '-drive if=none,file=a.iso,id=c -device ide-cd,drive=c',
    ['/vm/b.iso'],
    '-drive if=none,file=/vm/b.iso,id=c -device ide-cd,drive=c',
  ],
  [
    '-blockdev file,filename=/vm/a.iso,node-name=n -device scsi-cd,drive=n',
    [''],
    '-blockdev file,filename=/vm/a.iso,node-name=n -device scsi-cd',
  ],
  // Disks are no media, and a network’s name is not compared.
  ['-drive file=d.raw,if=virtio', [], '-drive file=d.raw,if=virtio'],
  [
    '-drive media=cdrom,file=nbd://host/x',
    ['nbd://host/x'],
    '-drive media=cdrom,file=nbd://host/x',
  ],
];

for (const [before, files, after] of MEDIA) {
  test(`media of ${before} with ${files.join() || 'no drive'}`, () => {
    const media = files.map((file, index) => ({ drive: `cd${index}`, file }));
    assert.is(formatOptions(withMedia(options(before), media, FOLDER)).join(' '), after);
  });
}

test('more than one changed medium is refused, with all of them', () => {
  const media = [
    { drive: 'cd0', file: '/vm/b.iso' },
    { drive: 'cd1', file: '/vm/c.iso' },
  ];
  try {
    withMedia(options('-cdrom a.iso -fda f.img'), media, FOLDER);
    assert.unreachable('two may have changed places');
  } catch (error) {
    assert.instance(error, UmbraError);
    assert.is((error as UmbraError).code, 'E_VM_CHANGED');
    for (const name of ['a.iso', 'f.img', 'b.iso', 'c.iso']) assert.match(String(error), name);
  }
});

const FILES: readonly (readonly [line: string, files: readonly string[]])[] = [
  ['-kernel k -initrd i.img', ['/vm/k', '/vm/i.img']],
  ['-bios seabios.bin', []],
  ['-bios ./own.bin', ['/vm/own.bin']],
  ['-readconfig vm.cfg', ['/vm/vm.cfg']],
  ['-drive file=d.qcow2 -hda e.raw', ['/vm/d.qcow2', '/vm/e.raw']],
  ['-drive file=nbd://host/x -drive file=json:{} -drive if=ide', []],
  ['-blockdev file,node-name=f,filename=/d -blockdev raw,file=f,node-name=r', ['/d']],
  ['-device virtio-net-pci,romfile= -device loader,file=/x', ['/x']],
  ['-object filter-dump,id=d,netdev=n,file=/tmp/dump', []],
  ['-append /no/file', []],
];

for (const [line, files] of FILES) {
  test(`files of ${line}`, () => {
    const found = neededFiles(options(line), FOLDER).map(({ path }) => path);
    assert.equal(found, files);
  });
}

const RECONNECT: readonly (readonly [before: string, version: string, after: string])[] = [
  ['-chardev socket,id=c,reconnect=2', '11.1.3', '-chardev socket,id=c,reconnect-ms=2000'],
  ['-chardev socket,id=c,reconnect=2', '9.1.0', '-chardev socket,id=c,reconnect=2'],
  ['-netdev stream,id=n,reconnect-ms=1500', '7.2.22', '-netdev stream,id=n,reconnect=2'],
  ['-device x,reconnect=2', '11.1.3', '-device x,reconnect=2'],
];

for (const [before, version, after] of RECONNECT) {
  test(`${before} for QEMU ${version}`, () => {
    assert.is(formatOptions(withReconnect(options(before), version)).join(' '), after);
  });
}

test('a QEMU that would go into the background stays where it is known', () => {
  assert.equal(inForeground(['qemu', '--daemonize', '-m', '64']), ['qemu', '-m', '64']);
  const named = ['qemu', '-name', '-daemonize'];
  assert.equal(inForeground(named), named);
});

function proof(text: string): string {
  const line = proofCommandLine(['qemu', ...text.split(' ')], {
    directory: '/p',
    workingDirectory: FOLDER,
    bytesOf: (path) => (path === '/vm/a.raw' ? 512 : undefined),
  });
  return line.slice(1, -4).join(' ');
}

const PROOFS: readonly (readonly [before: string, after: string])[] = [
  [
    '-nodefaults -drive file=a.raw,format=raw,if=virtio,cache=none',
    '-nodefaults -drive if=virtio,driver=null-co,size=512,read-zeroes=on',
  ],
  [
    '-nodefaults -blockdev file,node-name=f,filename=a.raw -blockdev raw,node-name=d,file=f',
    '-nodefaults -blockdev null-co,node-name=f,size=512,read-zeroes=on ' +
      '-blockdev null-co,node-name=d,size=1073741824,read-zeroes=on',
  ],
  ['-nodefaults -drive if=ide,media=cdrom', '-nodefaults -drive if=ide,media=cdrom'],
  [
    '-nodefaults -hda a.raw',
    '-nodefaults -drive if=ide,index=0,driver=null-co,size=512,read-zeroes=on',
  ],
  ['-nodefaults -qmp unix:/x -vnc :1 -pidfile p', '-nodefaults'],
  ['-nodefaults -serial unix:/x -serial none', '-nodefaults -serial null -serial none'],
  ['-nodefaults -chardev socket,id=c,path=/x', '-nodefaults -chardev null,id=c'],
  ['-nodefaults -netdev socket,id=n,listen=:1', '-nodefaults -netdev hubport,id=n,hubid=7500'],
  [
    '-nodefaults -object memory-backend-file,id=m,size=1G,mem-path=/x,share=on',
    '-nodefaults -object memory-backend-ram,id=m,size=1G',
  ],
];

for (const [before, after] of PROOFS)
  test(`a proof of ${before}`, () => assert.is(proof(before), after));

test('what needs more of the host than a proof may use is named', () => {
  for (const text of ['-spice port=1', '-tpmdev emulator,id=t,chardev=c', '-virtfs local,path=/']) {
    assert.throws(
      () => proof(text),
      (error: UmbraError) => {
        return (
          error.code === 'E_PROOF_IMPOSSIBLE' && error.message.includes(text.split(' ')[0] ?? '')
        );
      },
    );
  }
});

test.run();
