/**
 * Errors of the control channel:
 *
 * - GUEST_UNREACHABLE   nothing accepts connections on the control socket
 * - GUEST_CLOSED        the connection ended: QEMU is gone, or `close()` was called
 * - GUEST_TIMEOUT       no answer in time; the command has been killed
 * - GUEST_ABORTED       the caller's signal fired; the command has been killed
 * - GUEST_OUTPUT_LIMIT  the command printed more than is kept; it has been killed
 * - GUEST_REFUSED       the guest did not start the command
 */
export type GuestErrorCode =
  | 'GUEST_UNREACHABLE'
  | 'GUEST_CLOSED'
  | 'GUEST_TIMEOUT'
  | 'GUEST_ABORTED'
  | 'GUEST_OUTPUT_LIMIT'
  | 'GUEST_REFUSED';

export class GuestError extends Error {
  override readonly name = 'GuestError';
  readonly code: GuestErrorCode;

  constructor(code: GuestErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
