/** Errors of the set-up; the code is stable, the message is for people. */
export type SetupErrorCode =
  | 'SETUP_COMMAND_FAILED'
  | 'SETUP_PACKAGES_MISSING'
  | 'SETUP_PACKAGE_UNKNOWN'
  | 'SETUP_IMAGE_INCOMPLETE'
  | 'SETUP_SECOND_QEMU_UNAVAILABLE'
  | 'SETUP_NEXT_QEMU_UNAVAILABLE'
  | 'SETUP_RELEASE_UNKNOWN'
  | 'SETUP_BAD_QEMU'
  | 'SETUP_BAD_ACCELERATOR';

export class SetupError extends Error {
  override readonly name = 'SetupError';
  readonly code: SetupErrorCode;

  constructor(code: SetupErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
