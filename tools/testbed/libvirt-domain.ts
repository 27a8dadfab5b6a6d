/** The libvirt XML of a domain that runs our guest image. */
import { createHash } from 'node:crypto';
import { QUICK_BOOT } from '../guest/command-line.ts';

export interface DomainOptions {
  readonly name: string;
  readonly memoryMiB: number;
  readonly loadMiB: number;
  readonly emulator: string;
  readonly kernel: string;
  readonly initrd: string;
  /** File the guest's console is appended to. */
  readonly console: string;
  /**
   * Backs the memory with a file, mapped privately or shared. Undefined: libvirt's default,
   * anonymous memory.
   */
  readonly memoryFile?: MemoryFile | undefined;
  /** Path of a monitor besides libvirt's. */
  readonly monitor?: string | undefined;
  /** Gives the guest's agent a port, whose other end libvirt holds. */
  readonly agent?: boolean | undefined;
  /**
   * Makes the guest a node of a virtual cluster, which can run MPI jobs. Undefined: a single
   * machine that prints ticks on its console (ticks.ts).
   */
  readonly node?: GuestNode | undefined;
}

export type MemoryFile = 'private' | 'shared';

export interface GuestNode {
  readonly index: number;
  readonly nodes: number;
  /** Path of its control channel's socket (tools/guest/control.ts). */
  readonly control: string;
}

/** Network of a cluster's nodes: multicast on the loopback of the host's network namespace. */
const MULTICAST = { address: '230.0.0.1', port: 5_558 };

/** Returns the domain's XML. */
export function domainXml(options: DomainOptions): string {
  const { name, memoryMiB, loadMiB, emulator, kernel, initrd, node } = options;
  const words = ['console=ttyS0', 'quiet', 'panic=-1', 'random.trust_cpu=on', 'mitigations=off'];
  words.push('clocksource=acpi_pm', ...QUICK_BOOT);
  if (node === undefined) words.push('tell=0.1', `load=${loadMiB}`);
  else words.push(`node=${node.index}`, `nodes=${node.nodes}`);
  return `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${name}</name>
  <uuid>${uuidOf(name)}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory>
${backing(options.memoryFile)}  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <kernel>${kernel}</kernel>
    <initrd>${initrd}</initrd>
    <cmdline>${words.join(' ')}</cmdline>
  </os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>${emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'>
      <source path='${options.console}' append='on'/>
      <target port='0'/>
    </serial>
${node === undefined ? SILENT : clusterDevices(node)}${options.agent === true ? AGENT : ''}
  </devices>
${another(options.monitor)}</domain>
`;
}

function backing(file: MemoryFile | undefined): string {
  if (file === undefined) return '';
  return `  <memoryBacking><source type='file'/><access mode='${file}'/></memoryBacking>\n`;
}

function another(monitor: string | undefined): string {
  if (monitor === undefined) return '';
  const words = ['-qmp', `unix:${monitor},server=on,wait=off`];
  const args = words.map((word) => `<qemu:arg value='${word}'/>`).join('');
  return `  <qemu:commandline>${args}</qemu:commandline>\n`;
}

const AGENT = `
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>`;
const SILENT = "    <serial type='null'><target port='1'/></serial>";

function clusterDevices({ index, control }: GuestNode): string {
  const { address, port } = MULTICAST;
  const mac = `52:54:00:75:01:${index.toString(16).padStart(2, '0')}`;
  return `    <serial type='unix'>
      <source mode='bind' path='${control}'/>
      <target port='1'/>
    </serial>
    <interface type='mcast'>
      <mac address='${mac}'/>
      <source address='${address}' port='${port}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>`;
}

/** Returns the UUID for a name: the same on every host that defines the domain. */
function uuidOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  const [a, b, c, d, e] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 15), '0', ''];
  return `${a}-${b}-4${c}-8${hex.slice(15, 18)}${d.slice(1)}-${hex.slice(18, 30)}${e}`;
}
