import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OptionValue } from '../../../proxy/command-line/option-value.ts';

const test = suite('option value');

type Case = readonly [text: string, properties: Readonly<Record<string, string>>, again?: string];

/** Each is read with the implied key `type`; `again` is how it is written, if not as it was. */
const CASES: readonly Case[] = [
  ['', { type: '' }],
  ['pc', { type: 'pc' }],
  ['type=pc', { type: 'pc' }],
  ['pc,accel=kvm', { type: 'pc', accel: 'kvm' }],
  ['accel=kvm,type=pc', { accel: 'kvm', type: 'pc' }],
  ['/a,,b.sock,wait=off', { type: '/a,b.sock', wait: 'off' }],
  ['x,path=/a,,,,b', { type: 'x', path: '/a,,b' }],
  ['x,path=a=b', { type: 'x', path: 'a=b' }],
  ['x,,=y', { 'x,': 'y' }],
  ['x,server,nowait', { type: 'x', server: 'on', wait: 'off' }, 'x,server=on,wait=off'],
  ['x,noserver,nodelay', { type: 'x', server: 'off', delay: 'off' }, 'x,server=off,delay=off'],
  ['x,nothing', { type: 'x', nothing: 'on' }, 'x,nothing=on'],
  ['x,a=1,a=2', { type: 'x', a: '2' }],
  ['pc,type=q35', { type: 'q35' }],
  ['x,a=1,', { type: 'x', a: '1' }, 'x,a=1'],
  ['x,addr.type=unix,addr.path=/n', { type: 'x', 'addr.type': 'unix', 'addr.path': '/n' }],
  ['{"type":"x","a":{"b":"c"},"on":true}', { type: 'x', 'a.b': 'c', on: 'on' }],
  ['{"type":"x","n":7,"off":false}', { type: 'x', n: '7', off: 'off' }],
  ['{no json', { type: '{no json' }],
];

for (const [text, properties, again = text] of CASES) {
  test(`${text || 'nothing'} is read, and written again`, () => {
    const value = new OptionValue(text, 'type');
    const found = value.keys.map((key) => [key, value.get(key)]);
    assert.equal(Object.fromEntries(found), properties);
    assert.is(value.format(), again);
  });
}

test('a value of a comma is written as two', () => {
  const value = new OptionValue('file', 'driver');
  value.set('filename', '/a,b');
  assert.is(value.format(), 'file,filename=/a,,b');
});

test('the implied property can be replaced, in first place', () => {
  const list = new OptionValue('accel=tcg,type=pc,usb=off', 'type');
  list.delete('type');
  list.setFirst('type', 'q35');
  assert.is(list.format(), 'q35,accel=tcg,usb=off');
  const bare = new OptionValue('pc,accel=tcg', 'type');
  bare.delete('type');
  assert.is(bare.format(), 'accel=tcg', 'what is first now keeps its key');
  const json = new OptionValue('{"type":"pc","usb":false}', 'type');
  json.setFirst('type', 'q35');
  assert.is(json.format(), '{"type":"q35","usb":false}');
});

test('an option is on unless its value is off, no, false or n', () => {
  const value = new OptionValue('x,a=on,b=yes,c=true,d=off,e=no,f=false,g=n,h', 'type');
  const on = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'missing'].filter((key) => value.isOn(key));
  assert.equal(on, ['a', 'b', 'c', 'h']);
});

test.run();
