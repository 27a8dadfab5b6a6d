export { DEFAULT_DEADLINE_MS, QmpClient } from './client.ts';
export type * from './commands.ts';
export { QmpError, type QmpErrorCode } from './errors.ts';
export { LibvirtError, type LibvirtErrorCode } from './libvirt/errors.ts';
export { MonitorBridge, type MonitorPlace, type MonitorSockets } from './libvirt/monitor-bridge.ts';
export { virsh } from './libvirt/virsh.ts';
export type { QemuVersion, QmpEvent } from './protocol.ts';
