export { LibvirtError, type LibvirtErrorCode } from './errors.ts';
export { MonitorBridge, type MonitorAddress, type MonitorSockets } from './monitor-bridge.ts';
export { virsh } from './virsh.ts';
