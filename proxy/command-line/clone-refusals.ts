/** The reasons why a VM cannot have a clone that runs beside it. PURE. */
import { UmbraError } from '../failure/failure.ts';

type Code = 'E_CLONE_NETWORK' | 'E_CLONE_DISK' | 'E_CLONE_COMMAND';

/** Returns the error for an option that a clone cannot take over. */
export function refused(code: Code, option: string, message: string, hint?: string): UmbraError {
  return new UmbraError({ code, message: `${option}: ${message}`, ...(hint && { hint }) });
}

/** Returns the error for an option that means something only the first VM can have. */
export function belongsToFirst(name: string, value: string): UmbraError {
  const hint =
    'Use what QEMU makes itself: sockets (unix:PATH,server=on,wait=off), files, null or none.';
  const message = 'belongs to the first VM; a second one cannot use it at the same time';
  return refused('E_CLONE_COMMAND', `-${name} ${value}`.trim(), message, hint);
}

/** Returns the error for a disk that both VMs would write to. */
export function writableDisk(option: string): UmbraError {
  const hint = 'Clone diskless VMs, or attach the disk read-only (readonly=on).';
  return refused('E_CLONE_DISK', option, 'is a disk both VMs would write', hint);
}

/** Returns the error for a network on which both VMs would have the same addresses. */
export function notIsolated(option: string): UmbraError {
  const hint =
    'Put the VMs on Umbra’s switch (network.switch), of which a clone gets its own, or add ' +
    '--disconnect: the clone’s card is there, but leads nowhere.';
  const message = 'leads to a network the first VM is on, with the same addresses';
  return refused('E_CLONE_NETWORK', option, message, hint);
}
