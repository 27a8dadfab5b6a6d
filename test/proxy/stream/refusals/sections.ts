/** Sections, by their order, headers and footers. */
import * as b from '../builder.ts';
import { afterHeader, begun, list, type Refusal } from './refusal.ts';

export const SECTIONS: readonly Refusal[] = [
  {
    name: 'subsection outside of CONFIGURATION',
    stream: b.join(begun, b.uuid),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x5/,
  },
  {
    name: 'subsection without CONFIGURATION',
    stream: b.join(b.header, b.uuid),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x5/,
  },
  {
    name: 'VMDESC early',
    stream: b.join(begun, b.vmdesc('{}')),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x6/,
  },
  {
    name: 'stray footer',
    stream: b.join(begun, b.footer(2)),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x7e/,
  },
  {
    name: 'unknown section type',
    stream: b.join(begun, b.u8(0x42)),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x42/,
  },
  {
    name: 'RAM START twice',
    stream: b.join(begun, b.start(list)),
    code: 'E_STREAM_SECTION',
    section: 'ram START',
    says: /second START/,
  },
  {
    name: 'PART before START',
    stream: afterHeader(b.part()),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /2 was never started/,
  },
  {
    name: 'PART of an unknown id',
    stream: b.join(begun, b.u8(2), b.be32(77)),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /77 was never started/,
  },
  {
    name: 'PART after END',
    stream: b.join(begun, b.end(), b.part()),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /2 has ended/,
  },
  {
    name: 'EOF before RAM END',
    stream: b.join(begun, b.u8(0)),
    code: 'E_STREAM_TRUNCATED',
    section: 'section',
    says: /before RAM did/,
  },
  {
    name: 'no footer',
    stream: b.join(begun.subarray(0, -5), b.part()),
    code: 'E_STREAM_FOOTER',
    section: 'ram START',
    says: /missing/,
  },
  {
    name: 'footer of another section',
    stream: b.join(begun.subarray(0, -5), b.footer(3)),
    code: 'E_STREAM_FOOTER',
    section: 'ram START',
    says: /of section 3/,
  },
  {
    name: 'RAM version 3',
    stream: afterHeader(b.start(list, 'ram', 3)),
    code: 'E_STREAM_RAM_VERSION',
    section: 'ram START',
    says: /version 3/,
  },
  {
    name: 'RAM instance 1',
    stream: afterHeader(b.start(list, 'ram', 4, 1)),
    code: 'E_STREAM_RAM_VERSION',
    section: 'ram START',
    says: /instance 1/,
  },
];
