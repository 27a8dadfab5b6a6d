import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeMeshPage, describeOrphan, orphans, parseMeshShow } from './mesh.ts';

const test = suite('mesh counts');

/** Returns the counts of three nodes, each of which has received all that was sent to it. */
function quiet(): { node: number; peers: { sent: Counted; received: Counted }[] }[] {
  return [0, 1, 2].map((node) => ({
    node,
    peers: [0, 1, 2].map(() => ({ sent: { tcp: 9, udp: 9 }, received: { tcp: 9, udp: 9 } })),
  }));
}

interface Counted {
  tcp: number;
  udp: number;
}

function changed(node: number, peer: number, what: 'sent' | 'received', by: Partial<Counted>) {
  const all = quiet();
  Object.assign(all[node]?.peers[peer]?.[what] ?? {}, by);
  return all;
}

test('all that was sent has been received: consistent', () => {
  assert.equal(orphans(quiet()), []);
});

test('a message under way or lost is no orphan', () => {
  assert.equal(orphans(changed(1, 2, 'sent', { tcp: 10, udp: 500 })), []);
  assert.equal(orphans(changed(2, 1, 'received', { tcp: 0, udp: 0 })), []);
});

for (const protocol of ['tcp', 'udp'] as const) {
  test(`a message of ${protocol} received and never sent is an orphan, and is named`, () => {
    const [orphan, ...others] = orphans(changed(2, 0, 'received', { [protocol]: 10 }));
    assert.equal(others, []);
    assert.equal(orphan, { from: 0, to: 2, protocol, sent: 9, received: 10 });
    const words = `n0 to n2 by ${protocol}: 10 received, 9 sent`;
    assert.is(orphan && describeOrphan(orphan), words);
  });

  test(`a sender of ${protocol} that is behind is an orphan's as well`, () => {
    const found = orphans(changed(1, 0, 'sent', { [protocol]: 8 }));
    assert.equal(found, [{ from: 1, to: 0, protocol, sent: 8, received: 9 }]);
  });
}

test('a node that sends to another peer does not count as the sender', () => {
  const all = changed(0, 1, 'received', { udp: 12 }); // of n1
  Object.assign(all[1]?.peers[2]?.sent ?? {}, { udp: 20 }); // n1's to n2 is no excuse
  assert.equal(orphans(all).map(describeOrphan), ['n1 to n0 by udp: 12 received, 9 sent']);
});

test('the counts of a node for itself are ignored', () => {
  assert.equal(orphans(changed(1, 1, 'received', { tcp: 99 })), []);
});

test('the order of the nodes does not matter', () => {
  const all = changed(2, 0, 'received', { tcp: 10 }).reverse();
  assert.is(orphans(all).length, 1);
});

test('missing or repeated counts are an error', () => {
  for (const node of [0, 1, 2]) {
    const others = quiet().filter((one) => one.node !== node);
    assert.throws(() => orphans(others), /not every count/);
    const twice = others[0]?.node ?? 0;
    const doubled = quiet().map((one) => (one.node === node ? { ...one, node: twice } : one));
    assert.throws(() => orphans(doubled), /not every count/);
  }
  assert.throws(() => orphans([]), /no counts/);
});

function page(node: bigint, nodes: bigint): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.write('um_mesh counters');
  bytes.writeBigUInt64LE(node, 16);
  bytes.writeBigUInt64LE(nodes, 24);
  for (let word = 0; word < 12; word++) bytes.writeBigUInt64LE(BigInt(word), 32 + word * 8);
  return bytes;
}

test('a page of counts is read as mesh.c lays it out', () => {
  assert.equal(decodeMeshPage(page(1n, 3n)), {
    node: 1,
    peers: [0, 4, 8].map((at) => ({
      sent: { tcp: at, udp: at + 1 },
      received: { tcp: at + 2, udp: at + 3 },
    })),
  });
});

test('other pages are not taken for counts', () => {
  assert.is(decodeMeshPage(Buffer.alloc(4096)), undefined);
  assert.is(decodeMeshPage(page(3n, 3n)), undefined);
  assert.is(decodeMeshPage(page(0n, 65n)), undefined);
  assert.is(decodeMeshPage(page(0n, 2n ** 63n)), undefined);
  const shifted = Buffer.concat([Buffer.alloc(8), page(1n, 3n)]).subarray(0, 4096);
  assert.is(decodeMeshPage(shifted), undefined);
});

test('the output of a guest is parsed', () => {
  const text = ['n0 tcp sent 1 received 2', 'n0 udp sent 3 received 4'].join('\n');
  assert.equal(parseMeshShow(`${text}\n`, 1, 2).peers[0], {
    sent: { tcp: 1, udp: 3 },
    received: { tcp: 2, udp: 4 },
  });
  const ended = 'mesh: n0: out of order, at number 7\n';
  assert.throws(() => parseMeshShow(ended, 1, 2), /out of order/);
});

test.run();
