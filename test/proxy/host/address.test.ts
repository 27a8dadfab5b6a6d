import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { formatAddress, parseAddress } from '../../../proxy/host/address.ts';

test('an address is parsed, and formatted the same again', () => {
  const cases = {
    'tcp://127.0.0.1:5900': { kind: 'tcp', host: '127.0.0.1', port: 5900 },
    'tcp://host-b.example:49152': { kind: 'tcp', host: 'host-b.example', port: 49_152 },
    'tcp://[fd00::1]:65535': { kind: 'tcp', host: 'fd00::1', port: 65_535 },
    'unix:///run/umbra/vm.sock': { kind: 'unix', path: '/run/umbra/vm.sock' },
  };
  for (const [text, address] of Object.entries(cases)) {
    assert.equal(parseAddress(text), address);
    assert.is(formatAddress(parseAddress(text)), text);
  }
});

test('any other text is refused, and quoted', () => {
  const wrong = [
    '',
    '127.0.0.1:5900',
    'tcp://127.0.0.1',
    'tcp://:5900',
    'tcp://h:0',
    'tcp://h:65536',
    'tcp://h:5900/x',
    'unix://relative.sock',
    'qemu+ssh://b/system',
    `unix:///${'x'.repeat(107)}`,
  ];
  for (const text of wrong) {
    try {
      parseAddress(text);
      assert.unreachable(text);
    } catch (error) {
      assert.instance(error, UmbraError);
      assert.is((error as UmbraError).code, 'E_RELAY_ADDRESS');
      assert.ok((error as UmbraError).message.startsWith(text));
    }
  }
});

test.run();
