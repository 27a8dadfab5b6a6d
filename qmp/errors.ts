/**
 * Every way a QMP conversation can go wrong: what it means, and what an operator does next. The key
 * is the stable code. A code without a hint is raised by a broken invariant, or seen by the caller
 * alone.
 */
export const QMP_ERRORS = {
  E_QMP_CONNECT: {
    meaning: 'Nothing listens on the monitor’s socket, or it may not be opened.',
    hint: 'Check that the VM runs and that its -qmp socket is the one configured.',
  },
  E_QMP_NOT_QMP: {
    meaning: 'The peer does not speak QMP.',
    hint: 'Point the member at a QMP socket (-qmp unix:PATH,server=on,wait=off).',
  },
  E_QMP_SILENT: {
    meaning: 'No greeting comes: another client has the monitor, or QEMU hangs.',
    hint: 'Disconnect the other monitor client, or give the VM a second -qmp socket.',
  },
  E_QMP_FRAME: {
    meaning: 'A message is over the size limit, or is not JSON.',
    hint: 'Point the member at a QMP socket of QEMU, not of something else.',
  },
  E_QMP_COMMAND: {
    meaning: 'QEMU refused a command; `qemuClass` and `message` are its own.',
    hint: 'QEMU says why, its log (vm.log, or libvirt’s) perhaps more. Try again.',
  },
  E_QMP_TIMEOUT: {
    meaning: 'QEMU did not answer within the command’s deadline.',
    hint: 'Does the VM hang, or its host? See: umbra status. Then try again.',
  },
  E_QMP_CLOSED: {
    meaning: 'The connection ended: QEMU exited or was killed.',
    hint: 'The VM is gone. Restore the cluster: umbra restore',
  },
  E_QMP_AWAY: {
    meaning: 'libvirt, through which the monitor is reached, is away; the VM may run.',
    hint: 'Check that libvirt runs: virsh -c URI list. Umbra repairs the VMs with it or without.',
  },
  E_QMP_ABORTED: { meaning: 'The caller’s AbortSignal fired.' },
  E_QMP_LISTENER: {
    meaning: 'A listener failed at an event; `cause` is its error.',
    hint: 'A fault of Umbra’s: please report it, with the log of the daemon. The VM runs.',
  },
} as const;

export type QmpErrorCode = keyof typeof QMP_ERRORS;

export interface QmpErrorContext {
  /** Path of the monitor's socket. */
  readonly socket?: string | undefined;
  /** The command that failed. */
  readonly command?: string | undefined;
  /** QEMU's error class, such as `GenericError` or `CommandNotFound`. */
  readonly qemuClass?: string | undefined;
  readonly cause?: unknown;
}

export class QmpError extends Error {
  readonly code: QmpErrorCode;
  readonly socket: string | undefined;
  readonly command: string | undefined;
  readonly qemuClass: string | undefined;

  constructor(code: QmpErrorCode, message: string, context: QmpErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = 'QmpError';
    this.code = code;
    this.socket = context.socket;
    this.command = context.command;
    this.qemuClass = context.qemuClass;
  }
}
