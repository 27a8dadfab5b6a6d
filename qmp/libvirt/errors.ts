/** The errors of libvirt: meaning, and what an operator does next. The key is the code. */
export const LIBVIRT_ERRORS = {
  E_LIBVIRT_MISSING: {
    meaning: 'The host has no virsh.',
    hint: 'Install it: apt-get install libvirt-clients',
  },
  E_LIBVIRT_CONNECT: {
    meaning: 'libvirt cannot be reached at this URI, or has ended.',
    hint: 'Check the URI, and that libvirt runs: virsh -c URI list',
  },
  E_LIBVIRT_DOMAIN: {
    meaning: 'There is no such domain, or it does not run.',
    hint: 'See which domains run: virsh -c URI list --all',
  },
  E_LIBVIRT: {
    meaning: 'libvirt refuses; the message says why.',
    hint: 'libvirt says why; its log and the domain’s perhaps more.',
  },
} as const;

export type LibvirtErrorCode = keyof typeof LIBVIRT_ERRORS;

export class LibvirtError extends Error {
  override readonly name = 'LibvirtError';
  readonly code: LibvirtErrorCode;
  readonly uri: string;

  constructor(code: LibvirtErrorCode, message: string, uri: string, cause?: unknown) {
    super(`${message} (${uri})`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.uri = uri;
  }
}

/** Reads the code from what virsh says in the C locale: it has none (src/util/virerror.c). */
export function libvirtError(complaint: string, uri: string, cause?: unknown): LibvirtError {
  const lines = complaint
    .split('\n')
    .flatMap((line) => /^error: (.+)$/.exec(line.trim())?.[1] ?? []);
  // The first line says what virsh wanted, the last what stood in its way.
  const message = lines.at(-1) ?? (complaint.trim() || 'virsh ended without a word');
  return new LibvirtError(codeOf(lines.join('\n') || complaint), message, uri, cause);
}

/** virsh cannot reach libvirtd, or has lost it. */
const GONE = new RegExp(
  [
    'failed to connect to the hypervisor',
    'Disconnected from',
    'Failed to connect socket',
    'End of file while reading',
  ].join('|'),
);

function codeOf(text: string): LibvirtErrorCode {
  if (/not find|ENOENT/.test(text) && /virsh/.test(text)) return 'E_LIBVIRT_MISSING';
  if (GONE.test(text) || /no connection driver|[Cc]annot recv data|Connection reset/.test(text)) {
    return 'E_LIBVIRT_CONNECT';
  }
  if (/failed to get domain|Domain not found|domain is not running/.test(text)) {
    return 'E_LIBVIRT_DOMAIN';
  }
  return 'E_LIBVIRT';
}
