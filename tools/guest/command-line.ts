/** QEMU's command line for a guest of our image. */
import { posix } from 'node:path';
import type { QemuBinary } from '../qemu/qemu.ts';
import type { GuestImage } from './image.ts';

export interface GuestMachine {
  readonly qemu: QemuBinary;
  readonly image: GuestImage;
  readonly accel: 'tcg' | 'kvm';
  /** RAM, MiB. A job needs at least 128; 192 leaves room. */
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
export const GUEST_FILES = {
  qmp: 'qmp.sock',
  control: 'control.sock',
  net: 'net.sock',
  console: 'console.log',
} as const;

/** A machine type of every supported QEMU: guests can be restored on another version. */
const MACHINE_TYPE = 'pc-i440fx-7.2';

/** Limit of TCG's translation cache, which otherwise grows to a multiple of the guest's memory. */
const TRANSLATION_CACHE_MIB = 64;

/**
 * Kernel arguments that skip work at boot which no guest needs, a quarter of a second under TCG:
 * the self-tests of ciphers, the certificates that modules are signed with, the index of kprobes.
 */
export const QUICK_BOOT: readonly string[] = [
  'cryptomgr.notests',
  'initcall_blacklist=load_system_certificate_list,init_kprobe_trace',
];

/**
 * Returns the whole command line, program first. The guest starts at once; QEMU stays in the
 * foreground and listens on its network socket (for the switch), control and QMP sockets.
 */
export function guestCommandLine(machine: GuestMachine): string[] {
  const { qemu, image, accel, memoryMiB, node, dir } = machine;
  const macIndex = machine.macIndex ?? node;
  const at = (name: keyof typeof GUEST_FILES) => escapeCommas(posix.join(dir, GUEST_FILES[name]));
  const options = [
    ['-no-user-config', '-nodefaults', '-display', 'none', '-no-reboot'],
    ['-name', `n${node}`, '-uuid', uuidOf(macIndex)],
    ['-machine', MACHINE_TYPE, '-cpu', 'max', '-m', `${memoryMiB}`],
    ['-accel', accel === 'tcg' ? `tcg,tb-size=${TRANSLATION_CACHE_MIB}` : 'kvm'],
    ['-kernel', image.kernel, '-initrd', image.initrd],
    ['-append', kernelArguments(machine)],
    ['-qmp', `unix:${at('qmp')},server=on,wait=off`],
    ['-serial', `file:${at('console')}`],
    ['-serial', `unix:${at('control')},server=on,wait=off`],
    ['-netdev', `stream,id=net0,server=on,addr.type=unix,addr.path=${at('net')}`],
    // No boot ROM: we never boot from the network, and a ROM would differ between versions.
    ['-device', `virtio-net-pci,id=nic0,netdev=net0,mac=${macOf(macIndex)},romfile=`],
  ];
  return [qemu.binary, ...qemu.args, ...options.flat()];
}

/**
 * Returns the kernel's arguments. Two of them are for TCG alone, where several guests that boot at
 * once run late: the calibration of the time-stamp counter then fails now and then, and the ACPI
 * timer needs none; the kernel's check of timer interrupts through the IO-APIC expects them in time
 * and panics. KVM has a clock of its own, and the kernel makes no such check under it.
 */
function kernelArguments({ accel, node, nodes }: GuestMachine): string {
  const words = ['console=ttyS0', 'quiet', 'panic=-1', 'random.trust_cpu=on', 'mitigations=off'];
  words.push(...QUICK_BOOT);
  if (accel === 'tcg') words.push('clocksource=acpi_pm', 'no_timer_check');
  words.push(`node=${node}`, `nodes=${nodes}`);
  return words.join(' ');
}

/** Returns a locally administered address from the block that QEMU's documentation uses. */
function macOf(index: number): string {
  const hex = index.toString(16).padStart(4, '0');
  return `52:54:00:75:${hex.slice(0, 2)}:${hex.slice(2)}`;
}

function uuidOf(index: number): string {
  return `756d6272-6100-4000-8000-${index.toString(16).padStart(12, '0')}`;
}

/** Doubles commas: QEMU's option parser ends a value at a single one. */
function escapeCommas(path: string): string {
  return path.replaceAll(',', ',,');
}
