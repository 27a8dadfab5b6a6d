/** Encoded pages that lie: XBZRLE and zlib. */
import { deflateSync } from 'node:zlib';
import * as b from '../builder.ts';
import { base, inPart, type Refusal, ram } from './refusal.ts';

const code = (...bytes: number[]): Buffer => inPart(base, b.xbzrle(0, b.u8(...bytes)));
const zlib = (body: Buffer): Buffer => inPart(b.zlibPage(0, body, 'pc.ram'));

export const ENCODED_PAGES: readonly Refusal[] = [
  ...(
    [
      ['encoding 2', inPart(base, b.be64(0x60), b.u8(2, 0, 1, 0)), /encoding 2/],
      ['longer than a page', inPart(base, b.be64(0x60), b.u8(1), b.be16(4097)), /4097/],
      ['a lone byte', code(1), /cut off/],
      ['zrun past the page', code(0x81, 0x20, 1, 7), /unchanged run goes past/],
      ['zrun of 15 bits', code(0x81, 0x80, 1, 7), /14 bits/],
      ['nzrun missing', code(0x81, 0x02), /missing/],
      ['nzrun cut off', code(0x81, 0x02, 1), /missing/],
      ['nzrun 0', code(0, 0, 1), /changed run is empty/],
      ['nzrun of 15 bits', code(0, 0x81, 0x80), /14 bits/],
      ['nzrun past the encoding', code(0, 5, 1, 2, 3, 4), /past the encoding/],
      ['nzrun past the page', code(0xff, 0x1f, 2, 1, 2), /changed run goes past the page/],
      ['second zrun 0', code(0, 1, 9, 0, 1, 9), /unchanged run is empty/],
    ] as const
  ).map(([name, stream, says]) => ({
    name: `XBZRLE: ${name}`,
    stream,
    code: 'E_STREAM_XBZRLE' as const,
    section: ram,
    says,
  })),
  ...(
    [
      ['garbage', zlib(Buffer.alloc(40, 0x55)), /zlib: /],
      ['nothing', zlib(Buffer.alloc(0)), /zlib: /],
      ['less than a page', zlib(deflateSync(Buffer.alloc(4095))), /4095 bytes/],
      ['more than a page', zlib(deflateSync(Buffer.alloc(4097))), /larger than 4096|ERR_BUFFER/],
      ['a bomb', zlib(deflateSync(Buffer.alloc(1 << 21))), /larger than 4096|ERR_BUFFER/],
      ['cut off', zlib(deflateSync(b.pattern(3)).subarray(0, -6)), /zlib: /],
      ['bytes behind', zlib(b.join(deflateSync(b.pattern(3)), b.u8(1))), /1 more byte/],
    ] as const
  ).map(([name, stream, says]) => ({
    name: `zlib: ${name}`,
    stream,
    code: 'E_STREAM_COMPRESSED' as const,
    section: ram,
    says,
  })),
];
