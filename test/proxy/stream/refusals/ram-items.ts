/** Items of RAM sections: flags, block lists, places of pages. */
import * as b from '../builder.ts';
import { base, inPart, listing, type Refusal, ram } from './refusal.ts';

export const RAM_ITEMS: readonly Refusal[] = [
  ...[0x0, 0x1, 0x20, 0xa, 0x18, 0x30, 0x24, 0x400, 0x800].map((flags) => ({
    name: `flags 0x${flags.toString(16)}`,
    stream: inPart(base, b.be64(flags), Buffer.alloc(16)),
    code: 'E_STREAM_RAM_FLAGS' as const,
    section: ram,
    says: new RegExp(`0x${flags.toString(16)}\\b`),
  })),
  {
    name: 'no block list',
    stream: listing(b.EOS),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /without a block list/,
  },
  {
    name: 'second block list',
    stream: inPart(b.blockList(b.BLOCKS)),
    code: 'E_STREAM_BLOCK_LIST',
    section: ram,
    says: /second/,
  },
  {
    name: 'no RAM',
    stream: listing(b.be64(4)),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /no RAM/,
  },
  {
    name: 'block longer than the total',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(8192))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /8192 bytes, 4096 are left/,
  },
  {
    name: 'empty block',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(0))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /length of 0/,
  },
  {
    name: 'block of half a page',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(2048))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /length of 2048/,
  },
  {
    name: 'block of 2^64 - 4096 bytes',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(2n ** 64n - 4096n))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /4096 are left/,
  },
  {
    name: 'block twice',
    stream: listing(
      b.blockList([
        { name: 'm', pages: 1 },
        { name: 'm', pages: 1 },
      ]),
    ),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /"m" comes twice/,
  },
  {
    name: 'unknown block',
    stream: inPart(b.zero(0, 'pc.rim')),
    code: 'E_STREAM_BLOCK',
    section: ram,
    says: /"pc.rim"/,
  },
  {
    name: 'nameless block',
    stream: inPart(b.zero(0, '')),
    code: 'E_STREAM_BLOCK',
    section: ram,
    says: /""/,
  },
  {
    name: 'page before the block list',
    stream: listing(b.zero(0, 'pc.ram')),
    code: 'E_STREAM_BLOCK',
    section: 'ram START',
    says: /"pc.ram"/,
  },
  {
    name: 'CONTINUE first',
    stream: inPart(b.zero(0)),
    code: 'E_STREAM_CONTINUE',
    section: ram,
    says: /names no block/,
  },
  ...(
    [
      ['zero page', b.zero(8 * 4096, 'pc.ram')],
      ['zero page, CONTINUE', b.join(b.zero(0, 'pc.ram'), b.zero(8 * 4096))],
      ['page', b.page(8 * 4096, b.pattern(0), 'pc.ram')],
      ['page, CONTINUE', b.join(base, b.page(8 * 4096, b.pattern(0)))],
      ['page of a shorter block', b.join(base, b.zero(0, 'vga.vram'), b.zero(4 * 4096))],
      ['XBZRLE page', b.join(base, b.xbzrle(8 * 4096, b.u8(0, 1, 7)))],
      ['zlib page', b.join(base, b.zlibPage(8 * 4096, Buffer.alloc(9)))],
    ] as const
  ).map(([name, items]) => ({
    name: `${name} outside of its block`,
    stream: inPart(items),
    code: 'E_STREAM_OFFSET' as const,
    section: ram,
    says: /Page at (32768|16384) of block "(pc.ram|vga.vram)"/,
  })),
  {
    name: 'page at 2^64 - 4096',
    stream: inPart(b.be64((2n ** 64n - 4096n) | 0x2n), b.cstr('pc.ram'), b.u8(0)),
    code: 'E_STREAM_OFFSET',
    section: ram,
    says: /Page at 1844/,
  },
];
