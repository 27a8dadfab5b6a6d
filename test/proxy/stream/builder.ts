/**
 * Builds migration streams byte by byte, independently of the codec under test: numbers are
 * written out here as the format document has them, not taken from `proxy/stream/wire.ts`.
 */
export const PAGE_SIZE = 4096;

export function be16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function be64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function cstr(text: string): Buffer {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);
}

export function u8(...values: number[]): Buffer {
  return Buffer.from(values);
}

export const join = (...parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

export const header = join(Buffer.from('QEVM'), be32(3));

export function configuration(machine = 'pc-test', ...subsections: Buffer[]): Buffer {
  return join(u8(7), be32(machine.length), Buffer.from(machine), ...subsections);
}

export function subsection(name: string, payload: Uint8Array, version = 1): Buffer {
  return join(u8(5), cstr(name), be32(version), payload);
}

export const pageBits = (bits: number): Buffer =>
  subsection('configuration/target-page-bits', be32(bits));
export const capabilities = (...names: string[]): Buffer =>
  subsection('configuration/capabilities', join(be32(names.length), ...names.map(cstr)));
export const uuid = subsection('configuration/uuid', Buffer.alloc(16, 0x5a));

export function command(number: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  return join(u8(8), be16(number), be16(payload.length), payload);
}

export const footer = (id: number): Buffer => join(u8(0x7e), be32(id));

export interface Block {
  readonly name: string;
  readonly pages: number;
  readonly address?: number;
}

/** Returns the MEM_SIZE item with its list. */
export function blockList(blocks: readonly Block[], pageSize = PAGE_SIZE): Buffer {
  const total = blocks.reduce((sum, block) => sum + block.pages * pageSize, 0);
  const entries = blocks.flatMap(({ name, pages, address }) => [
    cstr(name),
    be64(pages * pageSize),
    ...(address === undefined ? [] : [be64(address)]),
  ]);
  return join(be64(total | 4), ...entries);
}

export const EOS = be64(0x10);
export const RAM_ID = 2;

export function start(payload: Uint8Array, name = 'ram', version = 4, instance = 0): Buffer {
  const head = join(u8(1), be32(RAM_ID), cstr(name), be32(instance), be32(version));
  return join(head, payload, footer(RAM_ID));
}
export const part = (...items: Uint8Array[]): Buffer =>
  join(u8(2), be32(RAM_ID), ...items, EOS, footer(RAM_ID));
export const end = (...items: Uint8Array[]): Buffer =>
  join(u8(3), be32(RAM_ID), ...items, EOS, footer(RAM_ID));

/** Returns a page item. Without a block name it CONTINUEs. */
function item(flag: number, offset: number, block: string | undefined, body: Uint8Array): Buffer {
  const named = block !== undefined;
  return join(be64(offset | flag | (named ? 0 : 0x20)), ...(named ? [cstr(block)] : []), body);
}
export const page = (offset: number, body: Uint8Array, block?: string): Buffer =>
  item(0x8, offset, block, body);
export const zero = (offset: number, block?: string, fill = 0): Buffer =>
  item(0x2, offset, block, u8(fill));
export const xbzrle = (offset: number, code: Uint8Array, block?: string): Buffer =>
  item(0x40, offset, block, join(u8(1), be16(code.length), code));
export const zlibPage = (offset: number, body: Uint8Array, block?: string): Buffer =>
  item(0x100, offset, block, join(be32(body.length), body));

export function full(id: number, name: string, body: Uint8Array, instance = 0): Buffer {
  return join(u8(4), be32(id), cstr(name), be32(instance), be32(1), body, footer(id));
}

/** Returns the VMDESC section of a JSON text. */
export function vmdesc(text: string): Buffer {
  const bytes = Buffer.from(text);
  return join(u8(6), be32(bytes.length), bytes);
}

/** Returns a page whose bytes depend on the seed, none of them zero. */
export function pattern(seed: number, pageSize = PAGE_SIZE): Buffer {
  const bytes = Buffer.alloc(pageSize);
  for (let i = 0; i < pageSize; i++) bytes[i] = ((seed * 31 + i * 7) & 0xff) | 1;
  return bytes;
}

export const BLOCKS: readonly Block[] = [
  { name: 'pc.ram', pages: 8 },
  { name: 'vga.vram', pages: 4 },
  { name: '/rom@etc/acpi/tables', pages: 2 },
];

export const TIMER = full(0, 'timer', Buffer.alloc(24, 0xaa));
export const CPU = full(3, 'cpu', join(Buffer.alloc(10, 0), cstr('{"x":{"y":0}}'), be32(7)), 1);
export const DEVICES = join(TIMER, CPU, u8(0));
/** Describes DEVICES exactly. */
export const DEVICES_JSON = JSON.stringify({
  page_size: PAGE_SIZE,
  devices: [
    {
      name: 'timer',
      instance_id: 0,
      vmsd_name: 'timer',
      version: 1,
      fields: [{ name: 'ticks', type: 'int64', size: 8, array_len: 3 }],
    },
    {
      name: 'cpu',
      instance_id: 1,
      vmsd_name: 'cpu',
      version: 1,
      fields: [{ name: 'regs', type: 'struct', struct: { nested: { deep: {} } }, size: 28 }],
    },
  ],
});

export const openReturnPath = join(command(1), command(2, be32(1)));
/** Everything up to RAM END for BLOCKS, with each simple kind of item. */
export const ramSections = join(
  start(join(blockList(BLOCKS), EOS)),
  part(page(0, pattern(1), 'pc.ram'), zero(4096), page(8192, pattern(2)), zero(12288)),
  part(),
  // CONTINUE over the section border.
  part(page(4096, pattern(3)), zero(0, 'vga.vram'), page(4096, pattern(4))),
  end(page(0, pattern(5), '/rom@etc/acpi/tables'), zero(0, 'pc.ram')),
);
