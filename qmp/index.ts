export { QmpClient } from './client.ts';
export type * from './commands.ts';
export { QmpError } from './errors.ts';
export type { QemuVersion, QmpEvent } from './protocol.ts';
