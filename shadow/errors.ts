/** The errors of the store: meaning, and what an operator does next. The key is the code. */
export const SHADOW_ERRORS = {
  E_STORE_NO_ROOM: {
    meaning: 'The host cannot hold the shadow; `missingBytes` says how much more it takes.',
    hint: 'Remove epochs (umbra rm EPOCH), lower store.headroom, or add memory.',
  },
  E_STORE_IO: {
    meaning: 'A file of the store could not be made, mapped, read or removed.',
    hint: 'Check the cluster’s folder: is it there, on tmpfs, ours, and writable?',
  },
  E_SHADOW_LAYOUT: {
    meaning: 'RAM blocks differ from those that were reserved.',
    hint: 'The VM changed its memory layout during the round (a reboot?). Try again.',
  },
  E_SHADOW_CLOSED: { meaning: 'A shadow was used after it was sealed or discarded.' },
  E_MANIFEST_INVALID: {
    meaning: 'A manifest is damaged, or is not what its name says.',
    hint: 'Restore another epoch: umbra epochs',
  },
  E_MANIFEST_VERSION: {
    meaning: 'A file was written by a release of Umbra whose format this one does not read.',
    hint: 'Restore it with that release, as the message names it.',
  },
  E_MANIFEST_FEATURE: {
    meaning: 'A file requires a feature, which the message names, that this Umbra does not know.',
    hint: 'Restore it with the newer Umbra that wrote it.',
  },
  E_EPOCH_UNKNOWN: {
    meaning: 'There is no such epoch.',
    status: 404,
    hint: 'List the epochs there are: umbra epochs',
  },
  E_EPOCH_EXISTS: {
    meaning: 'An epoch of that number is published already.',
    hint: 'Another daemon published it: end that one, and try again.',
  },
  E_EPOCH_CORRUPT: {
    meaning: 'Content does not match its digest.',
    hint: 'Restore another epoch: umbra epochs',
  },
  E_FOLDER_UNSAFE: {
    meaning: 'A folder belongs to another user, or is open to others.',
    hint:
      'If it is yours: chmod 700. If not, have it removed, or name another ' +
      '(UMBRA_HOME, the config).',
  },
  E_DURABLE_NO_ROOM: {
    meaning: 'The disk of the durable tier is full.',
    hint: 'Free space on the disk of persist.to, or lower persist.keep.',
  },
  E_DURABLE_IO: {
    meaning: 'The durable tier could not be written, read or removed.',
    hint: 'Check that persist.to is there and can be written.',
  },
} as const;

export type ShadowErrorCode = keyof typeof SHADOW_ERRORS;

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

/** Tells whether an error says that a file is of another version of Umbra, which is no damage. */
export function isOfAnotherUmbra({ code }: { readonly code: string }): boolean {
  return code === 'E_MANIFEST_VERSION' || code === 'E_MANIFEST_FEATURE';
}
