export { domainUuid } from './domain-uuid.ts';
export { LibvirtError } from './errors.ts';
export { MonitorBridge, type MonitorSockets } from './monitor-bridge.ts';
export { Virsh, virsh } from './virsh.ts';
