/**
 * Asks a monitor as a proxy does, for e2e/broken-daemon.test.ts: `node … ask-monitor.ts SOCKET`.
 * Sends the major version its QEMU claims before and after a migration has begun.
 */
import { holdFrames, releaseFrames } from '../../proxy/member/qemu/frame-hold.ts';
import { QmpClient } from '../../qmp/index.ts';

const qmp = await QmpClient.connect(process.argv[2] ?? '');
const before = qmp.version.major;
await holdFrames(qmp, ['net0']);
await qmp.execute('migrate', { uri: 'unix:/nowhere' });
await releaseFrames(qmp, ['net0']);
process.send?.(`${before} ${qmp.version.major}`, () => process.exit());
