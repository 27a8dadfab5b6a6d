import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fabric } from '../../../proxy/switch/fabric.ts';
import { wireFrame } from '../../support/switch-peer.ts';

const frame = (target: number, source: number) => wireFrame(target, source).subarray(4);

test('floods unknown addresses, and forwards learnt ones', () => {
  const fabric = new Fabric(3);
  assert.equal(fabric.route(0, frame(2, 1)), [1, 2]);
  assert.equal(fabric.route(1, frame(1, 2)), [0]);
  assert.equal(fabric.route(0, frame(2, 1)), [1]);
});

test('broadcasts go to all but their sender, whatever was learnt', () => {
  const fabric = new Fabric(3);
  fabric.route(1, frame(9, 1));
  assert.equal(fabric.route(1, frame(0xff, 1)), [0, 2]);
});

test('a group address is never learnt', () => {
  const fabric = new Fabric(3);
  fabric.route(0, frame(1, 0xff));
  assert.is(fabric.addressCount, 0);
});

test('a frame to its own port goes nowhere', () => {
  const fabric = new Fabric(2);
  fabric.route(0, frame(9, 1));
  fabric.route(0, frame(9, 2));
  assert.equal(fabric.route(0, frame(1, 2)), []);
});

test('an address that moves is followed', () => {
  const fabric = new Fabric(3);
  fabric.route(0, frame(9, 1));
  fabric.route(2, frame(9, 1));
  assert.equal(fabric.route(1, frame(1, 5)), [2]);
});

test('a port that went down is forgotten, the others are not', () => {
  const fabric = new Fabric(3);
  fabric.route(0, frame(9, 1));
  fabric.route(1, frame(9, 2));
  fabric.forget(0);
  assert.equal(fabric.route(2, frame(1, 3)), [0, 1]);
  assert.equal(fabric.route(2, frame(2, 3)), [1]);
});

test('runts are dropped', () => {
  const fabric = new Fabric(2);
  assert.equal(fabric.route(0, frame(2, 1).subarray(0, 13)), []);
  assert.equal(fabric.route(0, Buffer.alloc(0)), []);
  assert.is(fabric.addressCount, 0);
});

test('a guest that invents addresses cannot fill the memory', () => {
  const fabric = new Fabric(2);
  for (let i = 0; i < 10_000; i++) {
    const invented = frame(9, 0);
    invented.writeUInt32BE(i, 8);
    fabric.route(0, invented);
  }
  assert.is(fabric.addressCount, 4096);
  fabric.route(1, frame(9, 2));
  assert.equal(fabric.route(0, frame(2, 1)), [1]);
});

test.run();
