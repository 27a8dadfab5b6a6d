export { LibvirtError, type LibvirtErrorCode } from './errors.ts';
export { MonitorBridge, type MonitorPlace, type MonitorSockets } from './monitor-bridge.ts';
export { virsh } from './virsh.ts';
