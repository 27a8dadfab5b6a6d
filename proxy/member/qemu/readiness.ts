/** Refuses VMs that cannot be checkpointed now. */
import type { QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { describesState } from './machine.ts';
import { isBusy } from './migration.ts';

/**
 * Refuses a VM that cannot be checkpointed now.
 * @throws UmbraError E_VM_MIGRATING, E_VM_BLOCKED, E_VM_NO_DESCRIPTION, E_VM_NOT_RUNNING,
 * E_QEMU_UNSUPPORTED
 */
export async function requireReady(qmp: QmpClient): Promise<void> {
  const { major, minor } = qmp.version;
  if (major < 7 || (major === 7 && minor < 2)) {
    const message = `QEMU ${major}.${minor} is too old: 7.2 is the oldest supported`;
    throw new UmbraError({ code: 'E_QEMU_UNSUPPORTED', message });
  }
  const migration = await qmp.execute('query-migrate');
  if (isBusy(migration.status)) {
    const message = `the VM is already migrating (${migration.status})`;
    throw new UmbraError({ code: 'E_VM_MIGRATING', message });
  }
  const reasons = migration['blocked-reasons'] ?? [];
  if (reasons.length > 0) {
    const message = `QEMU cannot migrate this VM: ${reasons.join('; ')}`;
    throw new UmbraError({ code: 'E_VM_BLOCKED', message });
  }
  if (!(await describesState(qmp))) {
    const message = 'the machine has suppress-vmdesc=on: its stream does not describe its state';
    throw new UmbraError({ code: 'E_VM_NO_DESCRIPTION', message });
  }
  const { running, status } = await qmp.execute('query-status');
  if (!running) {
    throw new UmbraError({ code: 'E_VM_NOT_RUNNING', message: `the VM is ${status}, not running` });
  }
}
