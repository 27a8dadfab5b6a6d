/**
 * Every code that Umbra's own daemons and commands raise: what it means, the HTTP status of an
 * answer that carries it, and what an operator does next. PURE.
 *
 * The type of a code is derived from these tables, and the operator's reference (CODES.md) is
 * printed from them. The codes of QMP, libvirt, the store and the stream have tables of the same
 * shape beside their error classes; catalogue.ts joins them.
 */

/** The entry of a code. */
export interface CodeEntry {
  /** The fault, as one sentence. */
  readonly meaning: string;
  /**
   * HTTP status of an answer that carries the code; 409 where it is absent: refused as things are.
   */
  readonly status?: 400 | 404 | 500;
  /**
   * Next step for the operator; absent where only a broken invariant of Umbra's raises the code.
   */
  readonly hint?: string;
}

export type CodeTable = Readonly<Record<string, CodeEntry>>;

const GENERAL = {
  E_INTERNAL: {
    meaning: 'An invariant of Umbra is broken.',
    status: 500,
    hint: 'A fault of Umbra’s. The log of the daemon says where: please report it.',
  },
  E_BAD_REQUEST: {
    meaning: 'A request is malformed; the message names the field.',
    status: 400,
  },
  E_RENAMED: {
    meaning: 'A request spells a field or a value as an earlier version did.',
    status: 400,
    hint: 'The message names the new spelling; /v1/openapi.json has the fields of every request.',
  },
  E_ROUTE_UNKNOWN: {
    meaning: 'The API has no such address; the message names it.',
    status: 404,
  },
} as const satisfies CodeTable;

const CONFIGURATION = {
  E_CONFIG: {
    meaning:
      'cluster.yaml or relay.yaml has mistakes; each is named by its line and its path there.',
    hint: 'See what options there are: umbra explain',
  },
  E_CONFIG_FILE: {
    meaning: 'The file of the configuration cannot be read.',
    hint: 'Give the path of a cluster.yaml, or of a relay.yaml.',
  },
  E_RELOAD_FIXED: {
    meaning: 'A file was read again in which options differ that cannot change while it runs.',
    hint: 'Nothing was changed. End the daemon or the relay, and start it with the file.',
  },
  E_RELOAD_OFF: {
    meaning: 'No daemon or relay runs that could read the file again.',
    hint: 'Start it with the file: umbra up FILE, or umbra relay FILE',
  },
  E_POLICY_UNKNOWN: {
    meaning: '`umbra explain` knows no policy or option of that name.',
    hint: 'See what there is: umbra explain',
  },
  E_CLUSTER_UNKNOWN: {
    meaning: 'The host has no cluster of that name, or several and none was named.',
    hint: 'Start one: umbra up cluster.yaml, or: umbra attach SOCKET…',
  },
  E_CLUSTER_EXISTS: {
    meaning: 'A cluster of that name exists, or runs with another configuration.',
    hint: 'End it first: umbra down --cluster NAME',
  },
} as const satisfies CodeTable;

const DAEMON = {
  E_DAEMON_RUNS: {
    meaning: 'The cluster has a daemon already.',
    hint: 'Use the one that runs, or end it: umbra down',
  },
  E_DAEMON_DOWN: {
    meaning: 'The cluster’s daemon does not run.',
    hint: 'Start it again (VMs are left as they are): umbra up --cluster NAME',
  },
  E_DAEMON_LOST: {
    meaning: 'The daemon ended before it had answered.',
    hint: 'See its log, daemon.log in the cluster’s folder, then start it again: umbra up',
  },
  E_DAEMON_SILENT: {
    meaning: 'The daemon’s process is there and does not answer.',
    hint: 'End it; VMs stay as they are: umbra down --keep-vms',
  },
  E_DAEMON_ANSWER: {
    meaning: 'The daemon’s answer has another form than the command knows.',
    hint: 'It is of another version. Start it anew: umbra down --keep-vms, then umbra up',
  },
  E_DAEMON_ENDING: {
    meaning: 'The daemon is ending and takes on nothing more.',
    hint: 'Start it again: umbra up --cluster NAME',
  },
  E_PROXY_GONE: {
    meaning: 'A member’s proxy process has ended.',
    hint: 'Another proxy repairs its VM. Try again; the log of the daemon says more.',
  },
  E_PROXY_SILENT: {
    meaning: 'A member’s proxy does not answer.',
    hint: 'Another proxy repairs its VM. Is the host overloaded? Try again.',
  },
  E_PROTOCOL: {
    meaning: 'Two processes of Umbra do not understand each other: they are of different versions.',
    hint: 'Was Umbra upgraded while its daemon ran? Restart it: umbra down --keep-vms, umbra up',
  },
  E_PROCESS_KILL: {
    meaning: 'A process has not ended after SIGKILL.',
    hint: 'See what it waits for: ps -o stat,wchan -p PID. Then try again.',
  },
} as const satisfies CodeTable;

const VM = {
  E_VM_GONE: {
    meaning: 'The VM of a member has ended.',
    hint: 'Bring the cluster back: umbra restore --replace',
  },
  E_VM_PAUSED: {
    meaning: 'Another client of the monitor stopped the VM; Umbra leaves it stopped.',
    hint: 'Resume the VM when you are done with it (QMP cont), then try again.',
  },
  E_VM_NOT_FOUND: {
    meaning: 'No VM of this host has that monitor or domain.',
    hint: 'Give the path of the -qmp unix socket of a running QEMU of this host.',
  },
  E_VM_START: {
    meaning: 'QEMU could not be started.',
    hint: 'Check the member’s command, and its vm.log.',
  },
  E_VM_NOT_RUNNING: {
    meaning: 'The VM is not running, or does not resume.',
    hint: 'Resume the VM (QMP cont), then try again.',
  },
  E_VM_MIGRATING: {
    meaning: 'The VM is migrating already.',
    hint: 'Wait for the other migration, or cancel it, then try again.',
  },
  E_VM_BLOCKED: {
    meaning: 'QEMU cannot migrate the VM; it names the device or mount.',
    hint: 'Remove the device or mount QEMU names, then try again.',
  },
  E_VM_NO_DESCRIPTION: {
    meaning: 'The VM’s machine sends no description of its state, without which it cannot be read.',
    hint: 'Start the VM without suppress-vmdesc=on (-machine …,suppress-vmdesc=off).',
  },
  E_VM_USER: {
    meaning: 'QEMU has dropped its rights and cannot reach Umbra’s sockets.',
    hint: 'Start the VM without -runas (-run-with user=), or run Umbra as that user.',
  },
  E_VM_CHANGED: {
    meaning: 'The VM is no longer the machine that its command line makes.',
    hint:
      'Undo the change (device_del, device_add), or start the VM anew with the device in its ' +
      'command line.',
  },
  E_QEMU_NOT_KEPT: {
    meaning: 'The QEMU that the VM ran on when the epoch was taken is not kept.',
    hint:
      'Restore without --qemu recorded: the installed QEMU is started then. Of a domain, have ' +
      'libvirt start that QEMU.',
  },
  E_VM_FILE: {
    meaning: 'A file that the VM’s command line names is gone: the VM could not be started again.',
    hint: 'Put the file back where the command line names it.',
  },
  E_VM_MEMORY: {
    meaning: 'The VM’s memory cannot be read from outside, which comparing it takes.',
    hint:
      'Set round.capture to background or stop-copy; round.compareEmulated: false would ' +
      'trust QEMU’s log.',
  },
  E_QEMU_UNSUPPORTED: {
    meaning: 'QEMU is too old, or lacks what Umbra asks of it.',
    hint: 'Run the VM with QEMU 7.2 or newer.',
  },
  E_COMMAND_LINE: {
    meaning: 'The VM’s command line cannot be run a second time.',
    hint: 'Give the member a command that can be run twice.',
  },
  E_MACHINE_TYPE: {
    meaning: 'The member’s QEMU has another machine type than the epoch.',
    hint: 'Restore an epoch of this machine type, or correct the member’s command.',
  },
} as const satisfies CodeTable;

const ROUND = {
  E_ROUND_BUSY: {
    meaning: 'The cluster is busy with other work.',
    hint: 'Wait until the present round has ended: umbra status',
  },
  E_ROUND_ABORTED: { meaning: 'An operator ended the round.', hint: 'Try again.' },
  E_ROUND_TIMEOUT: {
    meaning: 'Nothing has moved in the round for longer than round.maxLive and two minutes.',
    hint: 'Does a VM hang, or the host? See which member lags: umbra report',
  },
  E_ROUND_UNKNOWN: {
    meaning: 'There is no report of that round.',
    status: 404,
    hint: 'Take a checkpoint first, or list the rounds there are: umbra report --list',
  },
  E_MEMBER_GONE: {
    meaning: 'A member’s proxy ended in the round.',
    hint: 'Another proxy repairs its VM. Try again: umbra status',
  },
  E_MEMBER_ABORTED: {
    meaning: 'A member left the round without being told to.',
    hint: 'Is the host overloaded? Try again; the log of the daemon says more.',
  },
  E_MEMBER_UNKNOWN: {
    meaning: 'The cluster has no member of that name.',
    status: 404,
    hint: 'See which there are: umbra status. Epochs fit the cluster they were taken of.',
  },
  E_STOP_DEADLINE: {
    meaning: 'The VM was stopped for longer than round.stopDeadline allows.',
    hint: 'Raise round.stopDeadline, or end the live phase with less left to send.',
  },
  E_RESUMED_EARLY: {
    meaning: 'The VM resumed before every member had stopped: the cut is lost.',
    hint: 'Leave the VMs alone while a checkpoint is taken; try again.',
  },
  E_STREAM_LOST: {
    meaning: 'The migration stream ended before the round needed it no longer.',
    hint: 'The VM is gone, or its migration was cancelled: umbra status',
  },
  E_MIGRATION_FAILED: {
    meaning: 'QEMU reports that its migration has failed or was cancelled.',
    hint: 'The VM runs on. If it was not cancelled, see the log of the VM; try again.',
  },
  E_ACCOUNTING: {
    meaning: 'The pages received are not those that QEMU says it has sent.',
    hint: 'The VM runs on, and epochs are as they were. Try again.',
  },
  E_HOLD_FRAMES: {
    meaning: 'Outgoing network frames of the VM cannot be held.',
    hint: 'Set round.cut to auto or all-stopped, or see: umbra doctor',
  },
  E_LISTEN: {
    meaning: 'The proxy cannot listen for the migration stream.',
    hint: 'Check that the cluster’s folder is there, is ours, and its path is short enough.',
  },
} as const satisfies CodeTable;

const CAPTURE = {
  E_CAPTURE_UNSAFE: {
    meaning: 'QEMU’s log of dirtied pages cannot be trusted for this VM.',
    hint:
      'Set round.capture to auto or stop-copy, use KVM, or QEMU 9.0 or newer with its ' +
      'memory readable for Umbra.',
  },
  E_TRACKING_UNSUPPORTED: {
    meaning: 'What a VM writes cannot be tracked, or is not known yet; the message says why.',
    hint:
      'See: umbra doctor. Let round.capture name another after it, as [tracked, precopy, ' +
      'stop-copy].',
  },
  E_TRACKING_REFUSED: {
    meaning: 'The kernel, or QEMU’s process, refuses to have its memory watched.',
    hint: 'The message says why. Epochs are whole without it: round.capture: [precopy, stop-copy]',
  },
  E_DEVICE_STATE: {
    meaning: 'QEMU has saved a device state that is none, or too large.',
    hint: 'A larger round.inFlight takes more; round.capture: [precopy] does without it.',
  },
  E_BACKGROUND_UNSUPPORTED: {
    meaning: 'QEMU, the host or a device rules background capture out; the message says which.',
    hint:
      'See: umbra doctor. Or let round.capture name another, as [background, precopy, ' +
      'stop-copy].',
  },
  E_BACKGROUND_DISKS: {
    meaning: 'The guest can write to disks that would be no part of the epoch.',
    hint:
      'Set round.disks: snapshot, make them read-only, or let round.capture name another, ' +
      'as precopy.',
  },
  E_HUGE_PAGES: {
    meaning: 'Huge pages cannot be joined again on this host.',
    hint: 'See what it takes: umbra doctor. Or set round.hugePages to leave.',
  },
  E_DISK_IN_USE: {
    meaning: 'A block job or an export writes to a disk, which QEMU would not hand over.',
    hint: 'Wait for the job, or end it or the export (block-job-cancel, block-export-del).',
  },
  E_DISK_REPLACED: {
    meaning:
      'Another file has the name of a disk by now: QEMU would go on with that one after a ' +
      'checkpoint.',
    hint: 'Give the file that the VM uses its name back, or start the VM anew.',
  },
  E_DISK_SHARED: {
    meaning: 'Two members use one disk, and one of them writes to it: no epoch could hold it.',
    hint: 'Give each VM a disk of its own, or let all of them only read it.',
  },
  E_DISK_SNAPSHOT: {
    meaning: 'The disks could not be frozen at the cut.',
    hint: 'Check that QEMU may write to the folders of its disks, and their space.',
  },
  E_DISK_LAYER: {
    meaning: 'A file that the epoch needs of a disk is gone.',
    hint: 'Put the file back, or restore another epoch: umbra epochs',
  },
  E_DISK_LAYERED: {
    meaning: 'The disk’s file is frozen: newer content is in layers over it.',
    hint:
      'Restore an epoch (umbra up --no-boot, umbra restore), or name the newest layer in ' +
      'the command.',
  },
  E_DISK_COMMAND: {
    meaning: 'The command line does not name the disk’s file exactly once.',
    hint: 'Give each disk its file in an option of its own: -drive file=…, or -blockdev.',
  },
} as const satisfies CodeTable;

const MEMORY = {
  E_BUDGET: {
    meaning: 'store.budget has too little left; `missingBytes` says how much.',
    hint: 'Remove epochs (umbra rm EPOCH), lower epochs.keep or keepFor, or raise store.budget.',
  },
  E_BUDGET_TOO_SMALL: {
    meaning: 'store.budget would not hold a round even without any epoch.',
    hint: 'Raise store.budget: without any epoch it would not hold a round, either.',
  },
} as const satisfies CodeTable;

const EPOCHS = {
  E_EPOCH_HELD: {
    meaning: 'A clone is being made of the epoch.',
    hint: 'Try again when the clone is there: umbra status -c CLONE',
  },
  E_EPOCH_PINNED: {
    meaning: 'The epoch is pinned.',
    hint: 'Unpin it first: umbra pin EPOCH --off',
  },
  E_HOLD_UNKNOWN: {
    meaning: 'The epoch is no longer held under that name.',
    status: 404,
    hint: 'Make the clone again.',
  },
} as const satisfies CodeTable;

const PERSIST = {
  E_PERSIST_OFF: {
    meaning: 'The cluster keeps no epochs on disk.',
    hint: 'Set persist.to in cluster.yaml.',
  },
  E_PERSIST_ENDED: {
    meaning: 'Persisting an epoch was interrupted.',
    hint: 'Start the daemon again: it persists what is not on disk yet.',
  },
  E_PERSIST_SLOW: {
    meaning: 'The epoch was not on disk within persist.timeLimit.',
    hint: 'Raise persist.timeLimit, or set persist.mode to background.',
  },
  E_DURABLE_BUSY: {
    meaning: 'Another daemon persists to the same folder.',
    hint:
      'End the other daemon, or give this cluster another name or persist.to. A daemon ' +
      'that has ended but ' +
      'waits for a hung disk lets go when the disk answers; Umbra tries again by itself.',
  },
  E_DURABLE_SILENT: {
    meaning: 'The disk of persist.to does not answer.',
    hint: 'Is the disk there (mount, cable, server)? See dmesg. Umbra continues when it answers.',
  },
  E_DURABLE_LOST: {
    meaning: 'A process that works on the disk of persist.to has ended.',
    hint: 'Try again; Umbra tries by itself, too. The log of the daemon says more.',
  },
} as const satisfies CodeTable;

const RESTORE = {
  E_LOAD_FAILED: {
    meaning: 'QEMU did not load the epoch.',
    hint: 'See the log of the VM (vm.log, or libvirt’s), or restore another epoch.',
  },
  E_PROOF_FAILED: {
    meaning: 'The epoch was loaded into a throw-away QEMU to prove it, and did not load.',
    hint: 'The VMs run on, and no epoch was committed. The message has QEMU’s own words.',
  },
  E_PROOF_IMPOSSIBLE: {
    meaning: 'No throw-away QEMU can be made of the VM; the message names the option.',
    hint: 'The epoch is as good as any that is not proven: set round.prove to never.',
  },
  E_NOT_LOADED: { meaning: 'A VM was to be resumed into which nothing was loaded.' },
  E_MAP_UNSUPPORTED: {
    meaning: 'The VM’s memory cannot be mapped from the epoch.',
    hint: 'Use --mode stream, or --mode auto.',
  },
  E_GUEST_AGENT: {
    meaning: 'The guest agent of a VM cannot be reached, or does not answer.',
    hint:
      'The guest must run qemu-guest-agent on a port org.qemu.guest_agent.0, which must lead to ' +
      'a unix socket of its own (-chardev socket,server=on,wait=off). umbra doctor tries it.',
  },
  E_GUEST_CLOCK: {
    meaning: 'The guest agent answers, and the guest’s clock was not set; the message says why.',
    hint: 'The VM runs. Set the clock in the guest, such as by its NTP client.',
  },
  E_MEMBERS_RUNNING: {
    meaning: 'Members of the cluster run; a restore would be a second copy of them.',
    hint: 'Stop those VMs, or add --replace to have Umbra kill them first.',
  },
  E_EXPORT: {
    meaning: 'The epoch could not be written as a save image of libvirt’s.',
    hint:
      'Check the folders: --libvirt must be writable, --store is what umbra relay --shadow ' +
      'had.',
  },
  E_LIBVIRT_PAIR: {
    meaning:
      'This libvirt cannot have this QEMU load a saved domain, and its memory is not mapped.',
    hint:
      'Use libvirt 12.9 or newer with QEMU 11; or put the domain’s memory into a file ' +
      "(<memoryBacking><source type='file'/></memoryBacking>).",
  },
  E_LIBVIRT_XML: {
    meaning: 'The epoch holds no XML of the domain, or the XML given does not fit.',
    hint: 'Give the domain’s own: virsh dumpxml --migratable DOMAIN >FILE, then --xml FILE.',
  },
} as const satisfies CodeTable;

const CLONE = {
  E_CLONE_SOURCE: {
    meaning: 'The daemon of the cluster to clone does not answer.',
    hint: 'Start the daemon of the source again, then try again: umbra up --cluster SOURCE',
  },
  E_CLONE_COMMAND: {
    meaning: 'The clone’s command line cannot be derived; the message names member and option.',
    hint: 'Start the VM without that option, and take another checkpoint.',
  },
  E_CLONE_DISK: {
    meaning: 'A disk that the VM writes to cannot be shared with a clone.',
    hint: 'Make the disk read-only, or take it away, and take another checkpoint.',
  },
  E_CLONE_NETWORK: {
    meaning: 'A network card of the VM cannot be given a network of the clone’s own.',
    hint: 'Bring it up unplugged: --disconnect',
  },
  E_CLONE_INTERRUPTED: {
    meaning: 'A signal ended the command before the clone was there.',
    hint: 'Nothing is left of it. Try again.',
  },
} as const satisfies CodeTable;

const RELAY = {
  E_RELAY_ADDRESS: {
    meaning: 'An address of the relay is malformed, or one of a pair is missing.',
    hint: 'Give tcp://HOST:PORT or unix:///PATH; --listen and --to come in pairs.',
  },
  E_RELAY_LISTEN: {
    meaning: 'The relay cannot listen on its address.',
    hint: 'Is another relay, or a QEMU, on that address? See: ss -ltnp, ss -lxp',
  },
  E_RELAY_CONTROL: {
    meaning: 'The socket by which `umbra reload` reaches the relay cannot be made.',
    hint: 'Give UMBRA_HOME a short path that is your own. SIGHUP reloads the file as well.',
  },
  E_RELAY_TARGET: {
    meaning: 'The destination does not accept the migration’s connection.',
    hint: 'Check --to, and that the destination listens: its libvirt names the port.',
  },
  E_RELAY_TARGET_LOST: {
    meaning: 'The destination’s connection broke.',
    hint: 'The VM runs on at the source. See the destination’s log, then try again.',
  },
  E_RELAY_SOURCE_LOST: {
    meaning: 'The source’s connection broke.',
    hint: 'If it was not cancelled, see the source’s log: virsh domjobinfo DOMAIN',
  },
  E_RELAY_STALLED: {
    meaning: 'One side has taken no byte for longer than --stall-limit.',
    hint: 'The VM runs on at the source. Check the network, or raise --stall-limit.',
  },
  E_RELAY_REFUSED: {
    meaning: 'The destination could not load the VM.',
    hint: 'See why in the destination’s log of the VM.',
  },
  E_RELAY_CANCELLED: {
    meaning: 'The migration ended before the destination had confirmed it.',
    hint: 'The VM runs on at the source; try again.',
  },
  E_RELAY_SHADOW: {
    meaning: 'No shadow was kept of the migration; the message says why.',
    hint: 'A shadow needs one connection in clear: no --parallel, no --tls, no --postcopy.',
  },
  E_RELAY_STORE: {
    meaning: 'The folder is not one in which a relay keeps shadows.',
    hint: 'Give the folder of umbra relay --shadow, or store.directory of its relay.yaml.',
  },
  E_RELAY_ENDED: {
    meaning: 'The relay was ended.',
    hint: 'The VM runs on at the source; start the relay, and try again.',
  },
} as const satisfies CodeTable;

/** Codes of the daemons and commands, by subject. */
export const SUBJECTS = {
  General: GENERAL,
  Configuration: CONFIGURATION,
  'Daemon and proxies': DAEMON,
  'Virtual machines': VM,
  Rounds: ROUND,
  Capture: CAPTURE,
  Memory: MEMORY,
  Epochs: EPOCHS,
  'Epochs on disk': PERSIST,
  Restore: RESTORE,
  Clones: CLONE,
  Relay: RELAY,
} as const;

/** A code that Umbra's daemons and commands raise themselves. */
export type OwnCode = {
  [Subject in keyof typeof SUBJECTS]: keyof (typeof SUBJECTS)[Subject];
}[keyof typeof SUBJECTS] &
  string;
