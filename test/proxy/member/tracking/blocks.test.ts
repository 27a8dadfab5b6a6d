/** RAM blocks in a QEMU that does not tell where they are (before 8.0). */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startTimeOf } from '../../../../proxy/host/known-process.ts';
import { findBlocks, parseFlatView } from '../../../../proxy/member/tracking/blocks.ts';
import { memoryObstacle } from '../../../../proxy/member/tracking/support.ts';
import type { QmpClient } from '../../../../qmp/index.ts';
import { splitMemory } from '../../../support/split-memory.ts';

const test = suite('blocks of tracked memory');

const MTREE = [
  'FlatView #0',
  ' AS "I/O", root: io',
  ' Root memory region: io',
  '  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan',
  '',
  'FlatView #1',
  ' AS "memory", root: system',
  ' AS "cpu-memory-0", root: system',
  ' Root memory region: system',
  '  0000000000000000-00000000000bffff (prio 0, ram): pc.ram KVM',
  '  00000000000c0000-00000000000c3fff (prio 0, rom): pc.ram @00000000000c0000',
  '  0000000000100000-000000003fffffff (prio 0, ram): pc.ram @0000000000100000',
  '  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram',
  '  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios',
  '',
].join('\r\n');

test('what the guest sees of its memory is read from the address space of its processors', () => {
  assert.equal(parseFlatView(MTREE), [
    { name: 'pc.ram', guest: 0n, offset: 0n },
    { name: 'pc.ram', guest: 0x100000n, offset: 0x100000n },
    { name: 'vga.vram', guest: 0xfd000000n, offset: 0n },
  ]);
});

/** Returns a monitor that answers as QEMU 7.2 does. */
function monitor(addresses: Readonly<Record<string, bigint>>): QmpClient {
  const execute = async (_command: string, { 'command-line': line }: Record<string, string>) => {
    if (line === 'info mtree -f') return MTREE;
    const guest = line?.replace('gpa2hva ', '') ?? '';
    const found = addresses[guest];
    return found === undefined
      ? 'No memory is mapped at address'
      : `Host virtual address for ${guest} (pc.ram) is 0x${found.toString(16)}\r\n`;
  };
  return { execute } as unknown as QmpClient;
}

const vm = { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' };

test('before 8.0, a block is found by where the guest has it', async () => {
  const { block } = splitMemory(2);
  const qmp = monitor({ '0x0': block.address });
  const found = await findBlocks(qmp, vm, [
    { idstr: 'pc.ram', length: block.length },
    { idstr: '/rom@etc/acpi/tables', length: 131_072 },
    { idstr: '0000:00:03.0/virtio-net-pci.rom', length: 262_144 },
  ]);
  assert.equal(
    found.map(({ address, memory }) => [address, memory]),
    [
      [block.address, 'anonymous'],
      [undefined, undefined],
      [undefined, undefined],
    ],
  );
});

test('a block that the guest can write and QEMU does not tell of is refused by name', async () => {
  const found = findBlocks(monitor({}), vm, [{ idstr: '/objects/hidden', length: 4096 }]);
  const why = await found.then(
    () => '',
    (error) => error.message,
  );
  assert.match(why, /objects\/hidden/);
});

test('an address at which nothing is mapped is refused', async () => {
  const found = findBlocks(monitor({}), vm, [{ idstr: 'ram', length: 4096, address: 4096n }]);
  const why = await found.then(
    () => '',
    (error) => error.message,
  );
  assert.match(why, /is not where QEMU says/);
});

test('a balloon is in the way only of memory that lies in a file', () => {
  const block = { idstr: 'pc.ram', bytes: 4096, address: 4096n };
  const of = (memory: 'anonymous' | 'mapped' | 'shared', balloon: boolean) =>
    memoryObstacle([{ ...block, memory }], balloon);
  assert.is(of('anonymous', true), undefined);
  assert.is(of('mapped', false), undefined);
  assert.match(of('mapped', true) ?? '', /pc.ram/);
  assert.match(of('shared', true) ?? '', /pc.ram/);
});

test.run();
