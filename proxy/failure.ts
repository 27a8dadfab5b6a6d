/**
 * A failure as it travels between our processes and to the operator: plain data, so that it crosses
 * IPC and HTTP unchanged. The hints say what to do next.
 */
export interface Failure {
  /** Stable; the hints below, QMP's, the store's and the stream's error files list them all. */
  readonly code: string;
  readonly message: string;
  readonly member?: string;
  /** What was being done, such as `open` or `drain`. */
  readonly where?: string;
  readonly hint?: string;
  /** Of memory, for a failure that more of it would have prevented. */
  readonly missingBytes?: number;
}

/** What the operator can do about a code. A code with no entry speaks for itself. */
const HINTS: Readonly<Record<string, string>> = {
  E_QMP_CONNECT: 'Check that the VM runs and that its -qmp socket is the one configured.',
  E_QMP_AWAY: 'Check that libvirt runs: virsh -c URI list. The VMs are put right once it answers.',
  E_QMP_NOT_QMP: 'Point the member at a QMP socket (-qmp unix:PATH,server=on,wait=off).',
  E_QMP_SILENT: 'Disconnect the other monitor client, or give the VM a second -qmp socket.',
  E_QMP_CLOSED: 'The VM is gone. Restore the cluster: umbra restore',
  E_VM_GONE: 'Bring the cluster back: umbra restore --replace',
  E_VM_PAUSED: 'Resume the VM when you are done with it (QMP cont), then try again.',
  E_STREAM_LOST: 'The VM is gone, or someone cancelled its migration: umbra status',
  E_VM_NOT_RUNNING: 'Resume the VM (QMP cont), then try again.',
  E_VM_MIGRATING: 'Wait for the other migration, or cancel it, then try again.',
  E_VM_BLOCKED: 'Remove the device or mount QEMU names, then try again.',
  E_STORE_NO_ROOM: 'Remove epochs (umbra rm EPOCH), lower store.headroom, or add memory.',
  E_BUDGET: 'Remove epochs (umbra rm EPOCH), lower epochs.keep or keepFor, or raise store.budget.',
  E_BUDGET_TOO_SMALL: 'Raise store.budget: without any epoch it would not hold a round, either.',
  E_SHADOW_LAYOUT: 'The VM changed its memory layout during the round (a reboot?). Try again.',
  E_CAPTURE_UNSAFE: 'Set round.capture to auto or stop-copy, use KVM, or QEMU 9.0 or newer.',
  E_BACKGROUND_UNSUPPORTED:
    'See: umbra doctor. Or let round.capture name another, as [background, precopy, stop-copy].',
  E_BACKGROUND_DISKS:
    'Set round.disks: snapshot, make them read-only, or let round.capture name another, as precopy.',
  E_DISK_SNAPSHOT: 'Check that QEMU may write to the folders of its disks, and their space.',
  E_DISK_LAYER: 'Put the file back, or restore another epoch: umbra epochs',
  E_DISK_LAYERED:
    'Restore an epoch (umbra up --no-boot, umbra restore), or name the newest layer in the command.',
  E_DISK_COMMAND: 'Give each disk its file in an option of its own: -drive file=…, or -blockdev.',
  E_STOP_DEADLINE: 'Raise round.stopDeadline, or end the live phase with less left to send.',
  E_ROUND_BUSY: 'Wait until the present round has ended: umbra status',
  E_MEMBERS_RUNNING: 'Stop those VMs, or add --replace to have Umbra kill them first.',
  E_EPOCH_UNKNOWN: 'List the epochs there are: umbra epochs',
  E_EPOCH_HELD: 'Try again when the clone is there: umbra status -c CLONE',
  E_ROUND_UNKNOWN: 'Take a checkpoint first, or list the rounds there are: umbra report --list',
  E_EPOCH_CORRUPT: 'Restore another epoch: umbra epochs',
  E_MANIFEST_INVALID: 'Restore another epoch: umbra epochs',
  E_FOLDER_UNSAFE:
    'If it is yours: chmod 700. If not, have it removed, or name another (UMBRA_HOME, the config).',
  E_DURABLE_NO_ROOM: 'Free space on the disk of persist.to, or lower persist.keep.',
  E_DURABLE_IO: 'Check that persist.to is there and can be written.',
  E_DURABLE_BUSY: 'Give this cluster another name or another persist.to, or end the other daemon.',
  E_PERSIST_SLOW: 'Raise persist.timeLimit, or set persist.mode to background.',
  E_MACHINE_TYPE: 'Restore an epoch of this machine type, or correct the member’s command.',
  E_LIBVIRT_MISSING: 'Install it: apt-get install libvirt-clients',
  E_LIBVIRT_CONNECT: 'Check the URI, and that libvirt runs: virsh -c URI list',
  E_LIBVIRT_DOMAIN: 'See which domains run: virsh -c URI list --all',
  E_LIBVIRT_XML: 'Give the domain’s own: virsh dumpxml --migratable DOMAIN >FILE, then --xml FILE.',
  E_EXPORT:
    'Check the folders: --libvirt must be writable, --store is what umbra relay --shadow had.',
  E_RELAY_ADDRESS: 'Give tcp://HOST:PORT or unix:///PATH; --listen and --to come in pairs.',
  E_RELAY_LISTEN: 'Is another relay, or a QEMU, on that address? See: ss -ltnp, ss -lxp',
  E_RELAY_TARGET: 'Check --to, and that the destination listens: its libvirt names the port.',
  E_RELAY_TARGET_LOST: 'The VM runs on at the source. See the destination’s log, then try again.',
  E_RELAY_SOURCE_LOST: 'If nobody cancelled it, see the source’s log: virsh domjobinfo DOMAIN',
  E_RELAY_STALLED: 'The VM runs on at the source. Check the network, or raise --stall-limit.',
  E_RELAY_REFUSED: 'See why in the destination’s log of the VM.',
  E_RELAY_CANCELLED: 'The VM runs on at the source; try again.',
  E_RELAY_SHADOW: 'A shadow needs one connection in clear: no --parallel, no --tls, no --postcopy.',
  E_RELAY_ENDED: 'The VM runs on at the source; start the relay, and try again.',
  E_MAP_UNSUPPORTED: 'Use --mode stream, or --mode auto.',
};

export class UmbraError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure, cause?: unknown) {
    super(failure.message, cause === undefined ? undefined : { cause });
    this.name = 'UmbraError';
    this.failure = withHint(failure);
  }

  get code(): string {
    return this.failure.code;
  }
}

/** Turns anything thrown into a Failure; a code the error carries is kept. */
export function toFailure(error: unknown, context: Pick<Failure, 'member' | 'where'>): Failure {
  const located = Object.fromEntries(Object.entries(context).filter(([, value]) => value));
  if (error instanceof UmbraError) return { ...located, ...error.failure };
  if (error instanceof Error) {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : 'E_INTERNAL';
    const missing = 'missingBytes' in error && typeof error.missingBytes === 'number';
    const missingBytes = missing ? { missingBytes: Number(error.missingBytes) } : {};
    return withHint({ code, message: error.message, ...missingBytes, ...located });
  }
  return { code: 'E_INTERNAL', message: String(error), ...located };
}

function withHint(failure: Failure): Failure {
  const hint = failure.hint ?? HINTS[failure.code];
  return hint === undefined ? failure : { ...failure, hint };
}
