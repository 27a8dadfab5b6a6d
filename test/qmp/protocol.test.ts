import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseMessage } from '../../qmp/protocol.ts';

const test = suite('qmp protocol');

test('greeting', () => {
  const line =
    '{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"x"},' +
    '"capabilities":["oob"]}}';
  const version = { major: 7, minor: 2, micro: 22, package: 'x' };
  assert.equal(parseMessage(line), { kind: 'greeting', version });
});

test('return, error, event', () => {
  assert.equal(parseMessage('{"return":{"running":true},"id":4}'), {
    kind: 'return',
    id: 4,
    value: { running: true },
  });
  assert.equal(parseMessage('{"id":5,"error":{"class":"GenericError","desc":"no"}}'), {
    kind: 'error',
    id: 5,
    qemuClass: 'GenericError',
    description: 'no',
  });
  const event =
    '{"timestamp":{"seconds":17,"microseconds":5},"event":"MIGRATION_PASS","data":{"pass":2}}';
  assert.equal(parseMessage(event), {
    kind: 'event',
    event: { name: 'MIGRATION_PASS', data: { pass: 2 }, timestampUs: 17_000_005 },
  });
});

const REFUSED: readonly (readonly [line: string, code: string])[] = [
  ['SSH-2.0-OpenSSH_9.2', 'E_QMP_FRAME'],
  ['{"return":', 'E_QMP_FRAME'],
  ['[]', 'E_QMP_NOT_QMP'],
  ['null', 'E_QMP_NOT_QMP'],
  ['{"hello":"world"}', 'E_QMP_NOT_QMP'],
  ['{"event":{"a":1}}', 'E_QMP_NOT_QMP'],
];

for (const [line, code] of REFUSED) {
  test(`refuses ${line}`, () => {
    assert.throws(
      () => parseMessage(line),
      (error: { code?: string }) => error.code === code,
    );
  });
}

test.run();
