/**
 * What can go wrong with shadows, by stable code.
 *
 * | code               | meaning                                                            |
 * |--------------------|--------------------------------------------------------------------|
 * | E_STORE_NO_ROOM    | the host cannot hold the shadow; `missingBytes` says how much more |
 * | E_STORE_IO         | a file of the store could not be made, mapped, read or removed     |
 * | E_SHADOW_LAYOUT    | RAM blocks differ from those that were reserved                    |
 * | E_SHADOW_CLOSED    | a shadow was used after it was sealed or discarded                 |
 * | E_MANIFEST_INVALID | a manifest is damaged, or not what its name says                   |
 * | E_MANIFEST_VERSION | a manifest was written by a newer Umbra                            |
 * | E_EPOCH_UNKNOWN    | no such epoch                                                      |
 * | E_EPOCH_EXISTS     | an epoch of that number is already published                       |
 * | E_EPOCH_CORRUPT    | content does not match its digest                                  |
 * | E_FOLDER_UNSAFE    | a folder is somebody else's, or open to others                      |
 * | E_DURABLE_NO_ROOM  | the disk of the durable tier is full                               |
 * | E_DURABLE_IO       | the durable tier could not be written, read or removed             |
 */
export type ShadowErrorCode =
  | 'E_STORE_NO_ROOM'
  | 'E_STORE_IO'
  | 'E_SHADOW_LAYOUT'
  | 'E_SHADOW_CLOSED'
  | 'E_MANIFEST_INVALID'
  | 'E_MANIFEST_VERSION'
  | 'E_EPOCH_UNKNOWN'
  | 'E_EPOCH_EXISTS'
  | 'E_EPOCH_CORRUPT'
  | 'E_FOLDER_UNSAFE'
  | 'E_DURABLE_NO_ROOM'
  | 'E_DURABLE_IO';

export interface ShadowErrorContext {
  /** The file or directory concerned. */
  readonly path?: string | undefined;
  readonly missingBytes?: number | undefined;
  readonly cause?: unknown;
}

export class ShadowError extends Error {
  readonly code: ShadowErrorCode;
  readonly path: string | undefined;
  readonly missingBytes: number | undefined;

  constructor(code: ShadowErrorCode, message: string, context: ShadowErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = 'ShadowError';
    this.code = code;
    this.path = context.path;
    this.missingBytes = context.missingBytes;
  }
}
