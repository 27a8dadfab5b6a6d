import { findQemus, type QemuBinary } from '../qemu/qemu.ts';

/**
 * Returns the newest QEMU of this machine. Under TCG, only QEMU 9.0 and later can capture a VM
 * while it runs.
 */
export async function newestQemu(): Promise<QemuBinary | undefined> {
  const qemus = await findQemus();
  return qemus.sort((a, b) => majorOf(b) - majorOf(a))[0];
}

function majorOf({ version }: QemuBinary): number {
  return Number(version.split('.')[0]);
}
