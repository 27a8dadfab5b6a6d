/**
 * The shapes of `e2e/real-vms`, by what is particular about them. Each was taken from how people
 * run VMs: their own scripts, libvirt, the defaults of distributions, clients of the monitor.
 */
import { copyFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Monitor, Shape } from './shape.ts';

const MIB = 2 ** 20;
const NET = '-netdev hubport,id=net0,hubid=1 -device virtio-net-pci,id=nic0,netdev=net0,romfile=';
const HOT = '64,slots=2,maxmem=1G';

/** Makes a file of zeros. */
function blank(name: string, bytes = MIB): (folder: string) => void {
  return (folder) => {
    const path = join(folder, name);
    writeFileSync(path, '');
    truncateSync(path, bytes);
  };
}

function text(name: string, content: string): (folder: string) => void {
  return (folder) => writeFileSync(join(folder, name), content);
}

function both(...makers: readonly ((folder: string) => void)[]): (folder: string) => void {
  return (folder) => {
    for (const make of makers) make(folder);
  };
}

/** Sets what another migration would have been given. */
function capability(...names: readonly string[]): (monitor: Monitor) => Promise<void> {
  return async (monitor) => {
    const capabilities = names.map((name) => ({ capability: name, state: true }));
    await monitor('migrate-set-capabilities', { capabilities });
  };
}

/** Main RAM, which `map` puts the image in place of, and memory besides it. */
export const MEMORY: readonly Shape[] = [
  { name: 'plain', options: '' },
  { name: 'q35', machine: 'pc-q35-7.2', options: '' },
  { name: 'microvm', machine: 'microvm', options: '' },
  { name: 'type-3-1', until: 10, machine: 'pc-i440fx-3.1', options: '' },
  { name: 'alias-pc', machine: 'pc', options: '' },
  { name: 'room-for-dimms', memory: HOT, options: '' },
  {
    name: 'dimm',
    memory: HOT,
    options: '-object memory-backend-ram,id=mem1,size=128M -device pc-dimm,id=dimm1,memdev=mem1',
  },
  {
    name: 'backend-id-first',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object id=ram0,qom-type=memory-backend-ram,size=64M',
  },
  {
    name: 'backend-json',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object {"id":"ram0","qom-type":"memory-backend-ram","size":67108864}',
  },
  {
    name: 'memfd-private',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object memory-backend-memfd,id=ram0,size=64M,share=off',
  },
  {
    name: 'file-private',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object memory-backend-file,id=ram0,size=64M,share=off,mem-path={f}/ram',
  },
  {
    name: 'backend-config',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-readconfig {f}/vm.cfg',
    files: text('vm.cfg', '[object "ram0"]\n qom-type = "memory-backend-ram"\n size = "64M"\n'),
    restored: 'stream',
    reason: /-readconfig/,
    cloneRefused: 'E_CLONE_COMMAND',
  },
  {
    name: 'memfd-shared',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object memory-backend-memfd,id=ram0,size=64M,share=on',
    restored: 'stream',
    reason: /shared/,
  },
  {
    name: 'file-shared',
    machine: 'pc-i440fx-7.2,memory-backend=ram0',
    options: '-object memory-backend-file,id=ram0,size=64M,share=on,mem-path={f}/ram',
    restored: 'stream',
    reason: /shared/,
    cloneRefused: 'E_CLONE_COMMAND',
  },
  {
    name: 'numa-one',
    options: '-object memory-backend-ram,id=m0,size=64M -numa node,memdev=m0',
    restored: 'stream',
    reason: /NUMA/,
  },
  {
    name: 'numa-memory',
    options:
      '-object memory-backend-ram,id=m0,size=32M -object memory-backend-ram,id=m1,size=32M ' +
      '-numa node,memdev=m0 -numa node,memdev=m1',
    restored: 'stream',
    reason: /NUMA/,
  },
  { name: 'prealloc', options: '-mem-prealloc', restored: 'stream', reason: /at once/ },
  { name: 'mem-lock', options: '-overcommit mem-lock=on', restored: 'stream', reason: /at once/ },
  {
    name: 'balloon',
    options: '-device virtio-balloon-pci,id=b0',
    restored: 'stream',
    reason: /balloon/,
  },
  {
    name: 'balloon-config',
    options: '-readconfig {f}/vm.cfg',
    files: text('vm.cfg', '[device "b0"]\n driver = "virtio-balloon-pci"\n'),
    restored: 'stream',
    reason: /balloon/,
    cloneRefused: 'E_CLONE_COMMAND',
  },
];

/** Devices and their backends. */
export const DEVICES: readonly Shape[] = [
  { name: 'net-hub', options: NET, cloneRefused: 'E_CLONE_NETWORK' },
  {
    name: 'net-user',
    options: '-netdev user,id=net0,restrict=on -device virtio-net-pci,netdev=net0,romfile=',
  },
  {
    name: 'usb',
    options: '-device qemu-xhci,id=usb -device usb-kbd,id=kbd -device usb-tablet,id=tablet',
  },
  { name: 'vga', options: '-vga std' },
  { name: 'rng', options: '-object rng-random,id=rng0 -device virtio-rng-pci,rng=rng0' },
  { name: 'vmgenid', options: '-device vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87' },
  { name: 'watchdog', options: '-device i6300esb' },
  {
    name: 'virtio-serial',
    options: '-device virtio-serial -chardev null,id=c0 -device virtconsole,chardev=c0',
  },
  { name: 'four-cpus', options: '-smp 4,maxcpus=8' },
  {
    name: 'client-socket',
    until: 10,
    options: '-chardev socket,id=c0,path={f}/peer.sock,reconnect=60 -device isa-serial,chardev=c0',
    cloneRefused: 'E_CLONE_COMMAND',
  },
  {
    name: 'daemonized-log',
    options: '-pidfile {f}/qemu.pid -D {f}/debug.log -msg timestamp=on',
  },
];

/** Disks, by spellings that QEMU takes. Writable ones are left as they are (round.disks: leave). */
export const DISKS: readonly Shape[] = [
  {
    name: 'drive',
    options: '-drive file={f}/a.raw,format=raw,if=virtio',
    files: blank('a.raw'),
    cloneRefused: 'E_CLONE_DISK',
  },
  {
    name: 'drive-file-prefix',
    options: '-drive file=file:{f}/a.raw,format=raw,if=ide',
    files: blank('a.raw'),
    cloneRefused: 'E_CLONE_DISK',
  },
  { name: 'hda', options: '-hda {f}/a.raw', files: blank('a.raw'), cloneRefused: 'E_CLONE_DISK' },
  {
    name: 'blockdev-pair',
    options:
      '-blockdev file,node-name=f0,filename={f}/a.raw -blockdev raw,node-name=d0,file=f0 ' +
      '-device virtio-blk-pci,drive=d0',
    files: blank('a.raw'),
    cloneRefused: 'E_CLONE_DISK',
  },
  {
    name: 'read-only',
    options: '-drive file={f}/a.raw,format=raw,if=virtio,readonly=on',
    files: blank('a.raw'),
  },
  {
    name: 'usb-disk',
    options:
      '-device qemu-xhci -drive if=none,id=u0,format=raw,file={f}/a.raw ' +
      '-device usb-storage,drive=u0',
    files: blank('a.raw'),
    cloneRefused: 'E_CLONE_DISK',
  },
  { name: 'cdrom', options: '-cdrom {f}/a.iso', files: blank('a.iso') },
  { name: 'empty-cdrom', options: '-drive if=ide,media=cdrom,id=cd0' },
  { name: 'null-disk', options: '-drive driver=null-co,size=1M,if=virtio' },
  {
    name: 'ejected',
    options: '-drive if=none,id=cd0,media=cdrom,file={f}/a.iso -device ide-cd,drive=cd0,id=cd',
    files: blank('a.iso'),
    change: async (monitor) => void (await monitor('eject', { id: 'cd', force: true })),
  },
  {
    name: 'other-medium',
    options: '-cdrom {f}/a.iso',
    files: both(blank('a.iso'), blank('b.iso')),
    change: async (monitor, folder) => {
      const words = { device: 'ide1-cd0', filename: `${folder}/b.iso`, format: 'raw' };
      await monitor('blockdev-change-medium', words);
    },
  },
];

/** VMs that a monitor's client, or the package manager, has changed. */
export const CHANGED: readonly Shape[] = [
  {
    name: 'upgraded',
    options: '',
    ownProgram: true,
    change: async (_, folder) => {
      copyFileSync(join(folder, 'qemu'), join(folder, 'new'));
      renameSync(join(folder, 'new'), join(folder, 'qemu'));
    },
  },
  {
    name: 'backends-added',
    options: '',
    change: async (monitor) => {
      await monitor('netdev_add', { type: 'hubport', id: 'n1', hubid: 2 });
      await monitor('object-add', { 'qom-type': 'memory-backend-ram', id: 'm1', size: 16 * MIB });
    },
  },
  {
    name: 'user-network-added',
    options: '',
    change: async (monitor) => void (await monitor('netdev_add', { type: 'user', id: 'unused' })),
    refused: 'E_VM_CHANGED',
    says: /backend unused \(user\) was added/,
  },
  {
    name: 'nic-plugged',
    options: '',
    change: async (monitor) => {
      await monitor('netdev_add', { type: 'hubport', id: 'n1', hubid: 2 });
      await monitor('device_add', { driver: 'virtio-net-pci', id: 'nic1', netdev: 'n1' });
    },
    refused: 'E_VM_CHANGED',
    says: /virtio-net-pci nic1 was plugged in/,
  },
  {
    name: 'dimm-plugged',
    memory: HOT,
    options: '',
    change: async (monitor) => {
      await monitor('object-add', { 'qom-type': 'memory-backend-ram', id: 'm1', size: 128 * MIB });
      await monitor('device_add', { driver: 'pc-dimm', id: 'dimm1', memdev: 'm1' });
    },
    refused: 'E_VM_CHANGED',
    says: /pc-dimm dimm1 was plugged in/,
  },
  {
    name: 'disk-plugged',
    options: '',
    files: blank('a.raw'),
    change: async (monitor, folder) => {
      const file = { driver: 'file', filename: `${folder}/a.raw` };
      await monitor('blockdev-add', { driver: 'raw', 'node-name': 'd1', file });
      await monitor('device_add', { driver: 'virtio-blk-pci', id: 'disk1', drive: 'd1' });
    },
    refused: 'E_VM_CHANGED',
    says: /virtio-blk-pci disk1 was plugged in/,
  },
  {
    name: 'balloon-plugged',
    options: '',
    change: async (monitor) => {
      await monitor('device_add', { driver: 'virtio-balloon-pci', id: 'b1' });
    },
    refused: 'E_VM_CHANGED',
    says: /virtio-balloon-pci b1 was plugged in/,
  },
  {
    name: 'keyboard-unplugged',
    options: '-device qemu-xhci,id=usb -device usb-kbd,id=kbd',
    change: async (monitor) => void (await monitor('device_del', { id: 'kbd' })),
    refused: 'E_VM_CHANGED',
    says: /usb-kbd kbd was taken out/,
  },
];

/** Settings of another's migration. */
export const SETTINGS: readonly Shape[] = [
  {
    name: 'tls',
    options: '-object tls-creds-anon,id=tls0,endpoint=client',
    change: async (monitor) => {
      await monitor('migrate-set-parameters', { 'tls-creds': 'tls0', 'tls-hostname': 'host' });
    },
  },
  { name: 'postcopy', options: '', change: capability('postcopy-ram', 'postcopy-preempt') },
  { name: 'multifd', options: '', change: capability('multifd') },
  { name: 'mapped-ram', options: '', since: 9, change: capability('mapped-ram') },
  {
    name: 'reboot-mode',
    options: '',
    since: 9,
    change: async (monitor) => {
      await monitor('migrate-set-parameters', {
        mode: 'cpr-reboot',
        'zero-page-detection': 'none',
      });
    },
  },
  { name: 'compressed', options: '', change: capability('xbzrle', 'auto-converge') },
  {
    name: 'validated',
    options: '',
    change: capability('validate-uuid', 'pause-before-switchover'),
  },
];

/** VMs whose epoch would fail, or be lost, on the day of need. */
export const REFUSED: readonly Shape[] = [
  {
    name: 'descriptor',
    options: '-add-fd fd=3,set=1',
    descriptor: true,
    refused: 'E_COMMAND_LINE',
    says: /descriptor/,
  },
  {
    name: 'other-user',
    options: '-runas daemon',
    until: 8,
    refused: 'E_VM_USER',
    says: /runs as user/,
  },
  {
    name: 'run-with-user',
    options: '-run-with user=daemon',
    since: 10,
    refused: 'E_VM_USER',
    says: /runs as user/,
  },
  {
    name: 'no-vmdesc',
    machine: 'pc-i440fx-7.2,suppress-vmdesc=on',
    options: '',
    refused: 'E_VM_NO_DESCRIPTION',
    says: /suppress-vmdesc/,
  },
  {
    name: 'disk-replaced',
    options: '-drive file={f}/a.raw,format=raw,if=virtio',
    files: blank('a.raw', MIB),
    change: async (_, folder) => {
      renameSync(join(folder, 'a.raw'), join(folder, 'aside.raw'));
      blank('a.raw', MIB)(folder);
    },
    refused: 'E_DISK_REPLACED',
    says: /a\.raw .*was replaced/,
  },
  {
    name: 'file-removed',
    options: '-device loader,file={f}/data,addr=0x2000000,force-raw=on',
    files: blank('data', 4096),
    change: async (_, folder) => rmSync(join(folder, 'data')),
    refused: 'E_VM_FILE',
    says: /data is gone/,
  },
  {
    name: 'mirrored',
    options: '-drive file={f}/a.raw,format=raw,if=virtio,id=d0',
    files: both(blank('a.raw', 16 * MIB), blank('b.raw', 16 * MIB)),
    change: async (monitor, folder) => {
      const mirror = { target: `${folder}/b.raw`, format: 'raw', mode: 'existing', speed: 1 };
      await monitor('drive-mirror', { device: 'd0', sync: 'full', 'job-id': 'copy', ...mirror });
    },
    refused: 'E_BACKGROUND_DISKS',
    says: /mirror job copy/,
  },
];

/** Returns two VMs with one disk, in a folder of both. */
export function SHARED(folder: string): readonly Shape[] {
  const disk = `file=${folder}/shared.raw,format=raw,if=none,id=d0,file.locking=off`;
  const device = '-device virtio-blk-pci,drive=d0,share-rw=on';
  return [
    {
      name: 'writer',
      options: `-drive ${disk} ${device}`,
      files: () => blank('shared.raw')(folder),
    },
    { name: 'reader', options: `-drive ${disk},readonly=on ${device}` },
  ];
}

/** Tells whether a QEMU has what a shape needs. */
export function isOf({ since = 0, until = 99 }: Shape, version: string): boolean {
  const major = Number(version.split('.')[0]);
  return major >= since && major <= until;
}
