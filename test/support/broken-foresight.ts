/**
 * Preloaded into a proxy (broken-daemon.ts): until a migration begins, QEMU claims to be at least
 * 9.0, which keeps a stopped VM stopped after its snapshot. Admission believes it: the round itself
 * has to notice that an older QEMU lets the VM run. Afterwards QEMU says what it is, because
 * undoing a snapshot depends on that.
 */
import { type QemuVersion, QmpClient } from '../../qmp/index.ts';

const CLAIMED_MAJOR = 9;

const prototype = QmpClient.prototype;
const version = Object.getOwnPropertyDescriptor(prototype, 'version')?.get;
if (version === undefined) throw new Error('QmpClient.version is no getter any more');
const { execute } = prototype;
const migrating = new WeakSet<QmpClient>();

Object.defineProperty(prototype, 'version', {
  configurable: true,
  get(this: QmpClient): QemuVersion {
    const real = Reflect.apply(version, this, []) as QemuVersion;
    if (migrating.has(this)) return real;
    return { ...real, major: Math.max(CLAIMED_MAJOR, real.major) };
  },
});

prototype.execute = function (this: QmpClient, ...call: unknown[]): Promise<never> {
  if (call[0] === 'migrate') migrating.add(this);
  return Reflect.apply(execute, this, call) as Promise<never>;
} as typeof execute;
