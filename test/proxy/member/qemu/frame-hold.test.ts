import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  holdFrames,
  holdingObstacle,
  parseNetwork,
  releaseFrames,
} from '../../../../proxy/member/qemu/frame-hold.ts';
import { type QmpClient, QmpError } from '../../../../qmp/index.ts';

const test = suite('frame hold');

/** Output of QEMU 7.2 and 10.0: two NICs with their backends, a hub of two, a backend alone. */
const NETWORK = [
  'virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56',
  ' \\ net0: index=0,type=stream,connecting: unix:/run/n0/net.sock',
  'e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57',
  ' \\ user.1: index=0,type=user,net=10.0.2.0,restrict=off',
  'hub 0',
  ' \\ hub0port1: socket.0: index=0,type=socket,',
  'alone: index=0,type=user,net=10.0.2.0,restrict=off',
].join('\r\n');

test('backends behind a NIC are found', () => {
  assert.equal(parseNetwork(NETWORK).slice(0, 2), ['net0', 'user.1']);
  assert.equal(parseNetwork(''), []);
});

interface Call {
  readonly command: string;
  readonly id: unknown;
}

function monitor(refuse: (id: string) => boolean): { qmp: QmpClient; calls: Call[] } {
  const calls: Call[] = [];
  const execute = async (command: string, { id }: { id: string }) => {
    calls.push({ command, id });
    if (refuse(id)) throw new QmpError('E_QMP_COMMAND', 'no');
    return {};
  };
  return { qmp: { execute } as unknown as QmpClient, calls };
}

test('backends are held, and released even if the release of one fails', async () => {
  const { qmp, calls } = monitor((id) => id.endsWith('b') && calls.length > 2);
  await holdFrames(qmp, ['a', 'b']);
  await releaseFrames(qmp, ['b', 'a']);
  assert.equal(
    calls.map(({ command, id }) => `${command} ${id}`),
    [
      'object-add umbra-hold-a',
      'object-add umbra-hold-b',
      'object-del umbra-hold-b',
      'object-del umbra-hold-a',
    ],
  );
});

test('a probe holds backends one after the other, and leaves no filter', async () => {
  const { qmp, calls } = monitor((id) => id.endsWith('b'));
  assert.match((await holdingObstacle(qmp, ['a', 'b', 'c'])) ?? '', /frames of b .*no/);
  assert.equal(
    calls.map(({ command, id }) => `${command} ${id}`),
    [
      'object-del umbra-try-a',
      'object-add umbra-try-a',
      'object-del umbra-try-a',
      'object-del umbra-try-b',
      'object-add umbra-try-b',
    ],
  );
  assert.is(await holdingObstacle(qmp, ['a']), undefined);
});

test('a backend that cannot be held is reported', async () => {
  const { qmp } = monitor(() => true);
  try {
    await holdFrames(qmp, ['net0']);
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code: string }).code, 'E_HOLD_FRAMES');
    assert.match((error as Error).message, 'net0');
  }
});

test.run();
