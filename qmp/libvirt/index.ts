export { LibvirtError, type LibvirtErrorCode } from './errors.ts';
export { type MonitorAddress, MonitorBridge, type MonitorSockets } from './monitor-bridge.ts';
export { virsh } from './virsh.ts';
