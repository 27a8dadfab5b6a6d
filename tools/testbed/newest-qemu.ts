import { findQemus, type QemuBinary } from '../qemu/qemu.ts';

/** The newest QEMU of this machine: under TCG only 9.0 and later can be captured while they run. */
export async function newestQemu(): Promise<QemuBinary | undefined> {
  const qemus = await findQemus();
  return qemus.sort((a, b) => majorOf(b) - majorOf(a))[0];
}

function majorOf({ version }: QemuBinary): number {
  return Number(version.split('.')[0]);
}
