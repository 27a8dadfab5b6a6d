/**
 * Every way a QMP conversation can go wrong, by stable code.
 *
 * | code             | meaning                                                          |
 * |------------------|------------------------------------------------------------------|
 * | E_QMP_CONNECT    | nobody listens on the socket, or it may not be opened            |
 * | E_QMP_NOT_QMP    | the peer does not speak QMP                                      |
 * | E_QMP_SILENT     | connected, but no greeting: another client holds the monitor,    |
 * |                  | or QEMU hangs                                                    |
 * | E_QMP_FRAME      | a message over the size limit, or not JSON                       |
 * | E_QMP_COMMAND    | QEMU refused a command; `qemuClass` and `message` are QEMU's own |
 * | E_QMP_TIMEOUT    | no answer within the command's deadline                          |
 * | E_QMP_CLOSED     | the connection ended: QEMU exited or was killed                  |
 * | E_QMP_AWAY       | libvirt, through which the monitor is reached, is away; the VM   |
 * |                  | may run                                                          |
 * | E_QMP_ABORTED    | the caller's AbortSignal fired                                   |
 * | E_QMP_OVERFLOW   | a reader of events fell too far behind                           |
 * | E_QMP_LISTENER   | a listener of ours failed at an event; `cause` is its error      |
 */
export type QmpErrorCode =
  | 'E_QMP_CONNECT'
  | 'E_QMP_NOT_QMP'
  | 'E_QMP_SILENT'
  | 'E_QMP_FRAME'
  | 'E_QMP_COMMAND'
  | 'E_QMP_TIMEOUT'
  | 'E_QMP_CLOSED'
  | 'E_QMP_AWAY'
  | 'E_QMP_ABORTED'
  | 'E_QMP_OVERFLOW'
  | 'E_QMP_LISTENER';

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
