import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { libvirtError } from '../../qmp/libvirt/errors.ts';
import {
  monitorAnswer,
  monitorCommand,
  monitorEvent,
  monitorRequest,
} from '../../qmp/libvirt/monitor-lines.ts';

test('a command survives virsh’s own quoting', () => {
  const line = monitorCommand('vm one', { execute: 'getfd', arguments: { fdname: "it's" } });
  assert.is(line.split("'").length, 5, 'four quotes, all of them the shell’s');
  const [, domain, , json = ''] = line.split("'");
  assert.is(domain, 'vm one');
  assert.equal(JSON.parse(json), { execute: 'getfd', arguments: { fdname: "it's" } });
});

test('a client that does not speak QMP gets an error with a code', () => {
  assert.equal(monitorRequest('{"execute": "cont", "id": [1]}'), { execute: 'cont', id: [1] });
  for (const line of ['{"execute": ', 'null', '7', '[]', '{}', '{"execute": 1}']) {
    assert.throws(() => monitorRequest(line), /the client does not speak/, line);
  }
  assert.throws(() => monitorRequest('{"execute": "cont", "arguments": null}'), /speak QMP/);
});

test('the answer is found among virsh’s echoes', () => {
  const echo = `virsh # qemu-monitor-command --domain 'd' --cmd '{"execute":"query-status"}'\n`;
  const answer = { return: { running: true }, id: 'libvirt-371' };
  assert.equal(
    monitorAnswer(`${echo}${JSON.stringify(answer)}\n\nvirsh # echo um''bra-1\n`),
    answer,
  );
  const refused = { id: 'libvirt-9', error: { class: 'GenericError', desc: 'no' } };
  assert.equal(monitorAnswer(`${echo}${JSON.stringify(refused)}\n`), refused);
  assert.is(monitorAnswer(`${echo}error: Requested operation is not valid\n`), undefined);
  assert.is(monitorAnswer('{"execute":"cut by the term\n'), undefined);
});

test('events keep QEMU’s own time, and need no details', () => {
  const line = `event MIGRATION at 1795274907.907597 for domain 'd': {"status":"setup"}`;
  assert.equal(monitorEvent(line), {
    event: 'MIGRATION',
    data: { status: 'setup' },
    timestamp: { seconds: 1_795_274_907, microseconds: 907_597 },
  });
  const stop = monitorEvent(`event STOP at 1.000005 for domain 'a: b': <null>`);
  assert.equal(stop, { event: 'STOP', data: {}, timestamp: { seconds: 1, microseconds: 5 } });
  assert.is(monitorEvent('events received: 0'), undefined);
  const cut = monitorEvent(`event STOP at 1.000005 for domain 'a': {"by": "u`);
  assert.equal(cut, { event: 'STOP', data: {}, timestamp: { seconds: 1, microseconds: 5 } });
});

test('errors of virsh get stable codes', () => {
  const cases = {
    E_LIBVIRT_DOMAIN: [
      "error: failed to get domain 'nope'",
      'error: Requested operation is not valid: domain is not running',
    ],
    E_LIBVIRT_CONNECT: [
      'error: failed to connect to the hypervisor\n' +
        "error: Failed to connect socket to '/x': No such file or directory",
      'error: Disconnected from qemu:///session due to end of file\n' +
        'error: End of file while reading data: Input/output error',
      'error: failed to connect to the hypervisor\n' +
        'error: no connection driver available for foo:///',
    ],
    E_LIBVIRT: [
      'error: Failed to restore domain from x\nerror: operation failed: guest is odd',
      '',
    ],
  };
  for (const [code, complaints] of Object.entries(cases)) {
    for (const complaint of complaints) {
      const error = libvirtError(complaint, 'qemu:///session');
      assert.is(error.code, code, complaint);
      assert.match(error.message, 'qemu:///session');
    }
  }
});

test.run();
