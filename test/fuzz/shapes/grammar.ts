/**
 * VMs drawn from a grammar of options, each with what its owner does to it while it runs. PURE.
 *
 *     shape   = machine memory cpus devices disks network settings changes
 *     devices = any of them, each once; microvm has no PCI and takes none
 *
 * Every choice has a name. Which choices a shape is made of is counted, so that a run can tell how
 * often each was tried, and which ones a fault has in common.
 */
import type { Random } from '../../../tools/sim/random.ts';
import type { Monitor } from '../../support/shape.ts';

/** A change that a monitor's client makes to a running VM. */
export interface Change {
  readonly name: string;
  /** A file in the VM's folder that is removed. */
  readonly removes?: string;
  readonly make: (monitor: Monitor, folder: string) => Promise<unknown>;
}

/** A file in the VM's folder: bytes of zeros, or a text. */
export interface VmFile {
  readonly name: string;
  readonly content: number | string;
}

/** A choice of the grammar. */
interface Choice {
  readonly name: string;
  readonly options?: string;
  readonly machine?: string;
  readonly memory?: string;
  readonly files?: readonly VmFile[];
  /** The choice that it goes with: one of them at most. */
  readonly place?: string;
}

/** A VM to be tried. */
export interface DrawnShape {
  readonly choices: readonly string[];
  readonly machine: string;
  readonly memory: string;
  readonly options: string;
  readonly files: readonly VmFile[];
  readonly changes: readonly Change[];
}

const MIB = 2 ** 20;
const DISK_BYTES = 2 * MIB;

const MACHINES: readonly Choice[] = [
  { name: 'pc', machine: 'pc' },
  { name: 'pc-7.2', machine: 'pc-i440fx-7.2' },
  { name: 'pc-3.1', machine: 'pc-i440fx-3.1' },
  { name: 'q35', machine: 'q35' },
  { name: 'q35-7.2', machine: 'pc-q35-7.2' },
  { name: 'microvm', machine: 'microvm' },
];

/** Choices for which any VM is refused: seldom, for nothing else of the VM is then tried. */
const REFUSED: readonly Choice[] = [
  { name: 'no-vmdesc', machine: ',suppress-vmdesc=on' },
  { name: 'dropped-rights', options: '-run-with user=daemon' },
  {
    name: 'nvme',
    options: '-drive driver=null-co,size=1M,if=none,id=n0 -device nvme,serial=n,drive=n0',
  },
];
const REFUSED_CHANCE = 0.03;

const MEMORY: readonly Choice[] = [
  { name: 'default-ram' },
  { name: 'prealloc', options: '-mem-prealloc' },
  { name: 'mem-lock', options: '-overcommit mem-lock=on' },
  { name: 'mem-path', options: '-mem-path {f}' },
  backend('backend-ram', 'memory-backend-ram,id=ram0,size=64M'),
  backend('backend-id-first', 'id=ram0,qom-type=memory-backend-ram,size=64M'),
  backend('backend-json', '{"id":"ram0","qom-type":"memory-backend-ram","size":67108864}'),
  backend('backend-policy', 'memory-backend-ram,id=ram0,size=64M,policy=bind,host-nodes=0'),
  backend('backend-no-merge', 'memory-backend-ram,id=ram0,size=64M,merge=off,dump=off'),
  backend('backend-prealloc', 'memory-backend-ram,id=ram0,size=64M,prealloc=on'),
  backend('memfd', 'memory-backend-memfd,id=ram0,size=64M'),
  backend('memfd-private', 'memory-backend-memfd,id=ram0,size=64M,share=off'),
  backend('file-shared', 'memory-backend-file,id=ram0,size=64M,share=on,mem-path={f}/ram'),
  backend('file-private', 'memory-backend-file,id=ram0,size=64M,share=off,mem-path={f}/ram'),
  {
    name: 'backend-config',
    machine: ',memory-backend=ram0',
    options: '-readconfig {f}/ram.cfg',
    files: [
      {
        name: 'ram.cfg',
        content: '[object "ram0"]\n qom-type = "memory-backend-ram"\n size = "64M"\n',
      },
    ],
  },
  {
    name: 'numa',
    options:
      '-object memory-backend-ram,id=m0,size=32M -object memory-backend-ram,id=m1,size=32M ' +
      '-numa node,memdev=m0 -numa node,memdev=m1',
  },
];

const CPUS: readonly Choice[] = [
  { name: 'one-cpu' },
  { name: 'two-cpus', options: '-smp 2' },
  { name: 'room-for-cpus', options: '-smp 1,maxcpus=4' },
  { name: 'cpu-max', options: '-cpu max' },
  { name: 'icount', options: '-icount shift=3,sleep=on' },
];

const DEVICES: readonly Choice[] = [
  { name: 'balloon', options: '-device virtio-balloon-pci,id=b0', place: 'balloon' },
  {
    name: 'balloon-config',
    options: '-readconfig {f}/balloon.cfg',
    files: [{ name: 'balloon.cfg', content: '[device "b0"]\n driver = "virtio-balloon-pci"\n' }],
    place: 'balloon',
  },
  { name: 'rng', options: '-device virtio-rng-pci' },
  { name: 'usb', options: '-device qemu-xhci,id=usb -device usb-kbd,id=kbd' },
  { name: 'vga', options: '-vga std' },
  { name: 'vmgenid', options: '-device vmgenid,guid=auto' },
  { name: 'watchdog', options: '-device i6300esb' },
  {
    name: 'console',
    options: '-device virtio-serial -chardev null,id=c0 -device virtconsole,chardev=c0',
  },
  {
    name: 'client-socket',
    options: '-chardev socket,id=c1,path={f}/peer,reconnect=60 -device isa-serial,chardev=c1',
  },
  {
    name: 'dimm',
    options: '-object memory-backend-ram,id=d0,size=128M -device pc-dimm,id=dimm0,memdev=d0',
    memory: ',slots=3,maxmem=2G',
    place: 'dimm',
  },
  { name: 'room-for-dimms', memory: ',slots=3,maxmem=2G', place: 'dimm' },
  {
    name: 'sound',
    options: '-audiodev none,id=a0 -device intel-hda -device hda-duplex,audiodev=a0',
  },
  { name: 'bridge', options: '-device pci-bridge,chassis_nr=3,id=bridge3' },
  { name: 'old-network', options: '-net nic,model=e1000 -net user,restrict=on' },
  {
    name: 'firmware-words',
    options: '-fw_cfg name=opt/words,string=hello -smbios type=1,serial=7',
  },
  {
    name: 'named',
    options: '-name guest=a,,b,debug-threads=on -uuid 12345678-0000-4000-8000-000000000001',
  },
  { name: 'sandbox', options: '-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny' },
  {
    name: 'loader',
    options: '-device loader,file={f}/data,addr=0x2000000,force-raw=on',
    files: [{ name: 'data', content: 4096 }],
  },
];

const DISKS: readonly Choice[] = [
  disk('hda', '-hda {f}/a.raw', 'ide0'),
  disk('drive-virtio', '-drive file={f}/b.raw,format=raw,if=virtio'),
  disk('drive-prefix', '-drive file=file:{f}/c.raw,format=raw,if=ide,index=1'),
  disk('drive-read-only', '-drive file={f}/d.raw,format=raw,if=virtio,readonly=on'),
  disk('drive-snapshot', '-drive file={f}/e.raw,format=raw,if=virtio,snapshot=on'),
  disk(
    'blockdev-pair',
    '-blockdev file,node-name=f0,filename={f}/g.raw -blockdev raw,node-name=d1,file=f0 ' +
      '-device virtio-blk-pci,drive=d1',
  ),
  disk(
    'blockdev-json',
    '-blockdev {"driver":"raw","node-name":"d2","file":{"driver":"file","filename":"{f}/h.raw"}} ' +
      '-device virtio-blk-pci,drive=d2,id=disk2',
  ),
  disk(
    'usb-disk',
    '-device nec-usb-xhci,id=usb2 -drive if=none,id=u0,format=raw,file={f}/i.raw ' +
      '-device usb-storage,bus=usb2.0,drive=u0',
  ),
  disk(
    'scsi-disk',
    '-device virtio-scsi-pci,id=scsi0 -drive if=none,id=s0,format=raw,file={f}/k.raw ' +
      '-device scsi-hd,bus=scsi0.0,drive=s0',
  ),
  disk('drive-unlocked', '-drive file={f}/m.raw,format=raw,if=virtio,file.locking=off'),
  disk('drive-throttled', '-drive file={f}/n.raw,format=raw,if=virtio,throttling.iops-total=500'),
  { name: 'null-disk', options: '-drive driver=null-co,size=1M,if=virtio' },
  disk('cdrom', '-cdrom {f}/j.raw', 'cd'),
  { name: 'empty-cdrom', options: '-drive if=ide,index=2,media=cdrom,id=cd0', place: 'cd' },
];

const NETWORKS: readonly Choice[] = [
  { name: 'no-network' },
  card('hub', 'hubport,id=net0,hubid=1'),
  card('user', 'user,id=net0,restrict=on'),
  card('stream', 'stream,id=net0,server=on,addr.type=unix,addr.path={f}/net'),
  card('socket', 'socket,id=net0,udp=127.0.0.1:9,localaddr=127.0.0.1:0'),
];

const SETTINGS: readonly Change[] = [
  capability('postcopy-ram', 'postcopy-preempt'),
  capability('multifd'),
  capability('xbzrle'),
  capability('auto-converge'),
  capability('validate-uuid'),
  capability('pause-before-switchover'),
  capability('release-ram'),
  capability('mapped-ram'),
  capability('background-snapshot'),
  capability('dirty-bitmaps'),
  capability('return-path', 'late-block-activate'),
  parameters('tls', { 'tls-creds': 'tls0' }),
  parameters('slow', { 'max-bandwidth': 4096, 'downtime-limit': 5000 }),
  parameters('reboot-mode', { mode: 'cpr-reboot' }),
  parameters('no-zero-pages', { 'zero-page-detection': 'none' }),
];

const CHANGES: readonly Change[] = [
  {
    name: 'plug-nic',
    make: async (monitor) => {
      await monitor('netdev_add', { type: 'hubport', id: 'p0', hubid: 7 });
      await monitor('device_add', { driver: 'virtio-net-pci', id: 'pnic', netdev: 'p0' });
    },
  },
  {
    name: 'plug-dimm',
    make: async (monitor) => {
      await monitor('object-add', { 'qom-type': 'memory-backend-ram', id: 'pm', size: 128 * MIB });
      await monitor('device_add', { driver: 'pc-dimm', id: 'pdimm', memdev: 'pm' });
    },
  },
  {
    name: 'plug-disk',
    make: async (monitor) => {
      await monitor('blockdev-add', { driver: 'null-co', 'node-name': 'pd', size: MIB });
      await monitor('device_add', { driver: 'virtio-blk-pci', id: 'pdisk', drive: 'pd' });
    },
  },
  {
    name: 'plug-balloon',
    make: (monitor) => monitor('device_add', { driver: 'virtio-balloon-pci', id: 'pb' }),
  },
  {
    name: 'plug-cpu',
    make: (monitor) =>
      monitor('device_add', {
        driver: 'qemu64-x86_64-cpu',
        id: 'pcpu',
        'socket-id': 1,
        'core-id': 0,
        'thread-id': 0,
      }),
  },
  {
    name: 'plug-rng',
    make: (monitor) => monitor('device_add', { driver: 'virtio-rng-pci', id: 'prng' }),
  },
  {
    name: 'plug-keyboard',
    make: (monitor) => monitor('device_add', { driver: 'usb-kbd', id: 'pkbd', bus: 'usb.0' }),
  },
  { name: 'unplug-nic', make: (monitor) => monitor('device_del', { id: 'nic0' }) },
  { name: 'remove-loaded', removes: 'data', make: async () => {} },
  {
    name: 'export',
    make: async (monitor, folder) => {
      const addr = { type: 'unix', data: { path: `${folder}/nbd` } };
      await monitor('nbd-server-start', { addr });
      const disk = { 'node-name': 'exported', driver: 'null-co', size: MIB };
      await monitor('blockdev-add', disk);
      const name = { id: 'e0', type: 'nbd', 'node-name': 'exported' };
      await monitor('block-export-add', { ...name, writable: true });
    },
  },
  { name: 'unplug-keyboard', make: (monitor) => monitor('device_del', { id: 'kbd' }) },
  { name: 'add-netdev', make: (monitor) => monitor('netdev_add', { type: 'user', id: 'unused' }) },
  {
    name: 'add-chardev',
    make: (monitor) => {
      return monitor('chardev-add', { id: 'unused', backend: { type: 'null', data: {} } });
    },
  },
  { name: 'eject', make: (monitor) => monitor('eject', { device: 'ide1-cd0', force: true }) },
  {
    name: 'change-medium',
    make: (monitor, folder) => {
      const medium = { filename: `${folder}/other.raw`, format: 'raw' };
      return monitor('blockdev-change-medium', { device: 'ide1-cd0', ...medium });
    },
  },
  {
    name: 'mirror',
    make: (monitor, folder) => {
      const target = { target: `${folder}/other.raw`, format: 'raw', mode: 'existing', speed: 1 };
      return monitor('drive-mirror', { device: 'virtio0', 'job-id': 'm', sync: 'full', ...target });
    },
  },
];

/** Draws a shape. The same numbers give the same shape. */
export function drawShape(random: Random): DrawnShape {
  const [machine, memory, cpus] = [MACHINES, MEMORY, CPUS].map((choices) => one(random, choices));
  const hasPci = machine?.name !== 'microvm';
  const network = hasPci ? one(random, NETWORKS) : NETWORKS[0];
  const devices = hasPci ? some(random, DEVICES, 0.2) : [];
  const disks = hasPci ? some(random, DISKS, 0.12) : [];
  const refused = some(random, REFUSED, REFUSED_CHANCE);
  const chosen = [machine, ...refused, memory, cpus, network, ...devices, ...disks].filter(
    (choice) => choice !== undefined,
  );
  const settings = some(random, SETTINGS, 0.05);
  const changes = random.next() < 0.5 ? [] : some(random, CHANGES, 0.12);
  const files = chosen.flatMap((choice) => choice.files ?? []);
  return {
    choices: [...chosen, ...settings, ...changes].map(({ name }) => name),
    machine: [machine, memory, ...refused].map((choice) => choice?.machine ?? '').join(''),
    memory: `64${chosen.find((choice) => choice.memory !== undefined)?.memory ?? ''}`,
    options: [TLS, ...chosen.map(({ options = '' }) => options)].join(' '),
    files: [{ name: 'other.raw', content: DISK_BYTES }, ...files],
    changes: [...changes, ...settings],
  };
}

/** Returns the names of all choices. */
export function allChoices(): string[] {
  const lists = [MACHINES, REFUSED, MEMORY, CPUS, NETWORKS, DEVICES, DISKS, SETTINGS, CHANGES];
  return lists.flatMap((list: readonly { readonly name: string }[]) =>
    list.map(({ name }) => name),
  );
}

/** Credentials that a setting may name. */
const TLS = '-object tls-creds-anon,id=tls0,endpoint=client';

function backend(name: string, object: string): Choice {
  return { name, machine: ',memory-backend=ram0', options: `-object ${object}` };
}

function disk(name: string, options: string, place?: string): Choice {
  const file = /\{f\}\/(\w+\.raw)/.exec(options)?.[1] ?? '';
  const files = [{ name: file, content: DISK_BYTES }];
  return { name, options, files, ...(place !== undefined && { place }) };
}

function card(name: string, netdev: string): Choice {
  const device = '-device virtio-net-pci,id=nic0,netdev=net0,romfile=';
  return { name: `net-${name}`, options: `-netdev ${netdev} ${device}` };
}

function capability(...names: readonly string[]): Change {
  const capabilities = names.map((name) => ({ capability: name, state: true }));
  return {
    name: names.join('+'),
    make: (monitor) => monitor('migrate-set-capabilities', { capabilities }),
  };
}

function parameters(name: string, values: object): Change {
  return { name, make: (monitor) => monitor('migrate-set-parameters', values) };
}

function one<T>(random: Random, choices: readonly T[]): T | undefined {
  return choices[random.integer(0, choices.length - 1)];
}

/** Draws each with a chance of its own, and of those with one place the first. */
function some<T extends { readonly name: string; readonly place?: string }>(
  random: Random,
  choices: readonly T[],
  chance: number,
): T[] {
  const taken = new Set<string>();
  return choices.filter(({ place }) => {
    if (random.next() >= chance) return false;
    if (place === undefined) return true;
    if (taken.has(place)) return false;
    taken.add(place);
    return true;
  });
}
