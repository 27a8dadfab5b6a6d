/**
 * Preloaded into a proxy (broken-daemon.ts): its monitor acknowledges that a guest's frames are
 * held, and QEMU is never told to hold them.
 */
import { QmpClient } from '../../qmp/index.ts';

/** The name a filter has that holds frames (proxy/member/qemu/frame-hold.ts). */
const HOLD = /^umbra-hold-/;

const { execute } = QmpClient.prototype;

QmpClient.prototype.execute = function (this: QmpClient, ...call: unknown[]): Promise<never> {
  const [command, options] = call as [string, { readonly id?: string } | undefined];
  if (command === 'object-add' && HOLD.test(options?.id ?? '')) return Promise.resolve({} as never);
  return Reflect.apply(execute, this, call) as Promise<never>;
} as typeof execute;
