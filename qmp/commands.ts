/**
 * The QMP commands Umbra uses, typed. Shapes follow qapi/{run-state,migration,misc,machine}.json of
 * QEMU 7.2 to 10.x; what differs between versions is optional here.
 */

export type RunState =
  | 'debug'
  | 'inmigrate'
  | 'internal-error'
  | 'io-error'
  | 'paused'
  | 'postmigrate'
  | 'prelaunch'
  | 'finish-migrate'
  | 'restore-vm'
  | 'running'
  | 'save-vm'
  | 'shutdown'
  | 'suspended'
  | 'watchdog'
  | 'guest-panicked'
  | 'colo';

export interface StatusInfo {
  readonly status: RunState;
  readonly running: boolean;
}

export type MigrationStatus =
  | 'none'
  | 'setup'
  | 'cancelling'
  | 'cancelled'
  | 'active'
  | 'postcopy-active'
  | 'postcopy-paused'
  | 'postcopy-recover'
  | 'completed'
  | 'failed'
  | 'colo'
  | 'pre-switchover'
  | 'device'
  | 'wait-unplug';

/** RAM statistics of a migration; sizes in bytes, `dirty-pages-rate` in pages per second. */
export interface MigrationRam {
  readonly transferred: number;
  readonly remaining: number;
  readonly total: number;
  /** Zero pages sent, counted with repeats. */
  readonly duplicate: number;
  /** Normal pages sent, counted with repeats. */
  readonly normal: number;
  readonly 'normal-bytes': number;
  readonly 'dirty-pages-rate': number;
  /** Passes over the dirty bitmap so far. */
  readonly 'dirty-sync-count': number;
  readonly 'page-size': number;
}

export interface MigrationInfo {
  readonly status?: MigrationStatus;
  readonly ram?: MigrationRam;
  readonly 'error-desc'?: string;
  readonly 'blocked-reasons'?: readonly string[];
  /** Milliseconds; both present once a migration completed. */
  readonly downtime?: number;
  readonly 'total-time'?: number;
}

export interface CapabilityState {
  readonly capability: string;
  readonly state: boolean;
}

export interface BlockInfo {
  /** Name of the drive, or '' for one that was made as a node. */
  readonly device: string;
  readonly qdev?: string;
  readonly removable: boolean;
  /** Absent without a medium. */
  readonly inserted?: {
    readonly ro: boolean;
    readonly file: string;
    readonly 'node-name'?: string;
    readonly image?: BlockImage;
  };
}

/** A file of a disk, and what it lies on. */
export interface BlockImage {
  readonly filename: string;
  readonly format: string;
  readonly 'backing-image'?: BlockImage;
}

export interface BlockNode {
  readonly 'node-name'?: string;
  /** The driver: that of a format, or of what it is in, such as `file`. */
  readonly drv: string;
  readonly file: string;
  readonly cache?: { readonly direct: boolean };
}

export interface SnapshotAction {
  readonly type: 'blockdev-snapshot-sync';
  readonly data: {
    readonly 'node-name': string;
    readonly 'snapshot-node-name': string;
    readonly 'snapshot-file': string;
    readonly format: string;
  };
}

export interface ChardevInfo {
  readonly label: string;
  /** Path or address behind it, such as `disconnected:unix:PATH,server=on`. */
  readonly filename: string;
  /** The device opens it; a port of virtio-serial does when a program in the guest has it open. */
  readonly 'frontend-open': boolean;
}

/** A node of the graph of block backends, jobs and nodes. */
export interface BlockGraph {
  readonly nodes: readonly {
    readonly id: number;
    readonly type: 'block-backend' | 'block-job' | 'block-driver';
    readonly name: string;
  }[];
  readonly edges: readonly {
    readonly parent: number;
    readonly child: number;
    /** Permissions of the parent on the child, such as `write`. */
    readonly perm: readonly string[];
  }[];
}

export interface QmpCommands {
  cont: { arguments: undefined; result: object };
  stop: { arguments: undefined; result: object };
  'query-kvm': { arguments: undefined; result: { enabled: boolean; present: boolean } };
  'query-status': { arguments: undefined; result: StatusInfo };
  'query-block': { arguments: undefined; result: readonly BlockInfo[] };
  'query-block-jobs': {
    arguments: undefined;
    result: readonly { device: string; type?: string }[];
  };
  'query-block-exports': {
    arguments: undefined;
    result: readonly { id: string; type: string; 'node-name': string }[];
  };
  /** Not stable, and the only way to learn what may write to a node (qapi/block-core.json). */
  'x-debug-query-block-graph': { arguments: undefined; result: BlockGraph };
  /** Since 7.2; not stable (qapi/virtio.json). */
  'x-query-virtio': {
    arguments: undefined;
    result: readonly { path: string; name: string }[];
  };
  'x-query-virtio-queue-status': {
    arguments: { path: string; queue: number };
    result: { 'vring-num': number; 'vring-num-default': number };
  };
  'qom-list': {
    arguments: { path: string };
    result: readonly { name: string; type: string }[];
  };
  'qom-get': { arguments: { path: string; property: string }; result: unknown };
  'query-named-block-nodes': { arguments: { flat: boolean }; result: readonly BlockNode[] };
  /** All or none. */
  transaction: { arguments: { actions: readonly SnapshotAction[] }; result: object };
  'blockdev-snapshot-sync': { arguments: SnapshotAction['data']; result: object };
  'blockdev-add': { arguments: Readonly<Record<string, unknown>>; result: object };
  'block-stream': {
    arguments: { 'job-id': string; device: string; 'base-node': string };
    result: object;
  };
  'query-chardev': { arguments: undefined; result: readonly ChardevInfo[] };
  'query-cpus-fast': { arguments: undefined; result: readonly { 'thread-id': number }[] };
  /** Fails with class DeviceNotActive where there is none (softmmu/balloon.c). */
  'query-balloon': { arguments: undefined; result: { actual: number } };
  'query-commands': { arguments: undefined; result: readonly { name: string }[] };
  /** Saves all but memory of a stopped VM; `live` left out inactivates its disks (savevm.c). */
  'xen-save-devices-state': { arguments: { filename: string; live: false }; result: object };
  'remove-fd': { arguments: { 'fdset-id': number }; result: object };
  'query-name': { arguments: undefined; result: { name?: string } };
  'query-uuid': { arguments: undefined; result: { UUID: string } };
  'query-migrate': { arguments: undefined; result: MigrationInfo };
  'query-migrate-capabilities': { arguments: undefined; result: readonly CapabilityState[] };
  'query-migrate-parameters': {
    arguments: undefined;
    result: Readonly<Record<string, unknown>>;
  };
  /** A table for humans; its layout is stable enough to read (softmmu/physmem.c). */
  'x-query-ramblock': { arguments: undefined; result: { 'human-readable-text': string } };
  'migrate-set-capabilities': {
    arguments: { capabilities: readonly CapabilityState[] };
    result: object;
  };
  'migrate-set-parameters': { arguments: Readonly<Record<string, unknown>>; result: object };
  migrate: { arguments: { uri: string }; result: object };
  'object-add': {
    arguments: { 'qom-type': string; id: string } & Readonly<Record<string, unknown>>;
    result: object;
  };
  'object-del': { arguments: { id: string }; result: object };
  /** The only way to learn of network backends. */
  'human-monitor-command': { arguments: { 'command-line': string }; result: string };
  migrate_cancel: { arguments: undefined; result: object };
  pmemsave: { arguments: { val: number; size: number; filename: string }; result: object };
}

export type QmpCommandName = keyof QmpCommands;
export type QmpArguments<C extends QmpCommandName> = QmpCommands[C]['arguments'];
export type QmpResult<C extends QmpCommandName> = QmpCommands[C]['result'];
