export { DEFAULT_DEADLINE_MS, QmpClient } from './client.ts';
export type * from './commands.ts';
export { QmpError, type QmpErrorCode } from './errors.ts';
export type { QemuVersion, QmpEvent } from './protocol.ts';
