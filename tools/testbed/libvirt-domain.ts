/** A domain of our guest, as libvirt wants it described. */
import { createHash } from 'node:crypto';

export interface DomainTerms {
  readonly name: string;
  readonly memoryMiB: number;
  readonly loadMiB: number;
  readonly emulator: string;
  readonly kernel: string;
  readonly initrd: string;
  /** File the guest's console is appended to. */
  readonly console: string;
}

export function domainXml(terms: DomainTerms): string {
  const { name, memoryMiB, loadMiB, emulator, kernel, initrd } = terms;
  const words = ['console=ttyS0', 'quiet', 'panic=-1', 'random.trust_cpu=on', 'mitigations=off'];
  words.push('clocksource=acpi_pm', 'tell=0.1', `load=${loadMiB}`);
  return `<domain type='qemu'>
  <name>${name}</name>
  <uuid>${uuidOf(name)}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory>
  <vcpu>1</vcpu>
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
      <source path='${terms.console}' append='on'/>
      <target port='0'/>
    </serial>
  </devices>
</domain>
`;
}

/** One name, one identity, whichever host defines it. */
function uuidOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  const [a, b, c, d, e] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 15), '0', ''];
  return `${a}-${b}-4${c}-8${hex.slice(15, 18)}${d.slice(1)}-${hex.slice(18, 30)}${e}`;
}
