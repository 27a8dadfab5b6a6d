import { posix } from 'node:path';
import type { QemuBinary } from '../qemu/qemu.ts';
import type { GuestImage } from './image.ts';

export interface GuestMachine {
  readonly qemu: QemuBinary;
  readonly image: GuestImage;
  readonly accel: 'tcg' | 'kvm';
  /** 128 is the least that runs a job, 192 is comfortable. */
  readonly memoryMiB: number;
  /** 0-based; becomes the host name `n<node>` and the address 10.0.0.(node + 1). */
  readonly node: number;
  readonly nodes: number;
  /**
   * The member's runtime folder, for its sockets and its console log, or a placeholder such as
   * `{dir}` when the result goes into a configuration. It must exist, and be short: a socket's
   * path has at most 107 bytes.
   */
  readonly dir: string;
  /** Makes the network address unique on the switch: 0-65535. Default: the node. */
  readonly macIndex?: number;
}

/** Names in a member's runtime folder. */
export const guestFiles = {
  qmp: 'qmp.sock',
  control: 'control.sock',
  net: 'net.sock',
  console: 'console.log',
} as const;

/** Every supported QEMU has it, so a guest captured on one version can be restored on another. */
const machineType = 'pc-i440fx-7.2';

/** Bounds the translation cache, which otherwise grows to a multiple of the guest's memory. */
const translationCacheMiB = 64;

/**
 * What a guest's kernel does without while it boots, a quarter of a second under TCG: tests of its ciphers, of
 * which no guest uses any, the certificates that modules are signed with, and an index of its probes.
 */
export const quickBoot: readonly string[] = [
  'cryptomgr.notests',
  'initcall_blacklist=load_system_certificate_list,init_kprobe_trace',
];

/**
 * The whole command line, program first. The guest runs at once and QEMU stays in the foreground;
 * its network socket waits for the switch, its control and QMP sockets for whoever comes.
 */
export function guestCommandLine(machine: GuestMachine): string[] {
  const { qemu, image, accel, memoryMiB, node, dir } = machine;
  const macIndex = machine.macIndex ?? node;
  const at = (name: keyof typeof guestFiles) => escapeCommas(posix.join(dir, guestFiles[name]));
  return [
    qemu.binary,
    ...qemu.args,
    '-no-user-config',
    '-nodefaults',
    '-display',
    'none',
    '-no-reboot',
    '-name',
    `n${node}`,
    '-uuid',
    uuidOf(macIndex),
    '-machine',
    machineType,
    '-cpu',
    'max',
    '-m',
    `${memoryMiB}`,
    '-accel',
    accel === 'tcg' ? `tcg,tb-size=${translationCacheMiB}` : 'kvm',
    '-kernel',
    image.kernel,
    '-initrd',
    image.initrd,
    '-append',
    kernelArguments(machine),
    '-qmp',
    `unix:${at('qmp')},server=on,wait=off`,
    '-serial',
    `file:${at('console')}`,
    '-serial',
    `unix:${at('control')},server=on,wait=off`,
    '-netdev',
    `stream,id=net0,server=on,addr.type=unix,addr.path=${at('net')}`,
    // No boot ROM: we never boot from the network, and a ROM would differ between versions.
    '-device',
    `virtio-net-pci,id=nic0,netdev=net0,mac=${macOf(macIndex)},romfile=`,
  ];
}

/**
 * Under TCG the time-stamp counter's calibration goes wrong now and then when several guests boot
 * at once; the ACPI timer needs none. So does the kernel's check that timer interrupts come through the
 * IO-APIC, which counts on them being in time, and panics. KVM brings a clock of its own, and no check.
 */
function kernelArguments({ accel, node, nodes }: GuestMachine): string {
  const clock = accel === 'tcg' ? ['clocksource=acpi_pm', 'no_timer_check'] : [];
  return [
    'console=ttyS0',
    'quiet',
    'panic=-1',
    'random.trust_cpu=on',
    'mitigations=off',
    ...quickBoot,
    ...clock,
    `node=${node}`,
    `nodes=${nodes}`,
  ].join(' ');
}

/** Locally administered, from the block that QEMU's documentation uses. */
function macOf(index: number): string {
  const hex = index.toString(16).padStart(4, '0');
  return `52:54:00:75:${hex.slice(0, 2)}:${hex.slice(2)}`;
}

function uuidOf(index: number): string {
  return `756d6272-6100-4000-8000-${index.toString(16).padStart(12, '0')}`;
}

/** QEMU's option parser ends a value at a comma unless it is doubled. */
function escapeCommas(path: string): string {
  return path.replaceAll(',', ',,');
}
