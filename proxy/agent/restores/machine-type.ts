/** Checks that a QEMU can build an epoch's machine again. */
import { machineTypeOf } from '../../command-line/machine-type.ts';
import { UmbraError } from '../../failure/failure.ts';
import { queryProgram } from './program.ts';

/** Machines that a version of QEMU, or a distribution, is appended to: pc-i440fx-jammy. */
const FAMILIES = /^(pc-i440fx|pc-q35|microvm|virt)(?=-|$)/;

/**
 * Refuses an epoch whose machine is not the configured one, or one that this QEMU cannot build.
 * @param program the QEMU to start
 * @param recorded the machine type in the epoch, in full; '' if it is not known
 * @param configured the member's command line, if the configuration has one
 * @throws UmbraError E_MACHINE_TYPE, E_VM_START
 */
export async function requireMachine(
  program: string,
  recorded: string,
  configured: readonly string[] | undefined,
): Promise<void> {
  if (recorded === '') return;
  const { machines } = await queryProgram(program);
  const wanted = configured && machineTypeOf(configured);
  const full = wanted === undefined ? undefined : (machines.get(wanted) ?? wanted);
  if (full !== undefined && familyOf(full) !== familyOf(recorded)) {
    const message = `the epoch is of machine type ${recorded}, the member is now a ${full}`;
    throw new UmbraError({ code: 'E_MACHINE_TYPE', message });
  }
  if (machines.size > 0 && ![...machines.values()].includes(recorded)) {
    const message = `${program} does not know machine type ${recorded}`;
    throw new UmbraError({ code: 'E_MACHINE_TYPE', message });
  }
}

/** Returns a machine type without its version: pc-i440fx-7.2, pc-i440fx-jammy are one machine. */
function familyOf(machineType: string): string {
  return FAMILIES.exec(machineType)?.[1] ?? machineType.replace(/-\d+(\.\d+)*$/, '');
}
