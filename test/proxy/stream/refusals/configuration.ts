/** CONFIGURATION sections. */
import * as b from '../builder.ts';
import { begun, config, type Refusal } from './refusal.ts';

export const CONFIGURATION: readonly Refusal[] = [
  {
    name: 'unknown subsection',
    stream: config(b.subsection('configuration/novel', b.be32(0))),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /"configuration\/novel"/,
  },
  {
    name: 'subsection of version 2',
    stream: config(b.subsection('configuration/uuid', Buffer.alloc(16), 2)),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /version 2/,
  },
  {
    name: 'subsection twice',
    stream: config(b.uuid, b.uuid),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /twice/,
  },
  {
    name: 'CONFIGURATION twice',
    stream: b.join(b.header, b.configuration(), b.configuration()),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /first section/,
  },
  {
    name: 'CONFIGURATION late',
    stream: b.join(begun, b.configuration()),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /first section/,
  },
  ...[0, 9, 17, 0xffffffff].map((bits) => ({
    name: `page of 2^${bits} bytes`,
    stream: config(b.pageBits(bits)),
    code: 'E_STREAM_LIMIT' as const,
    section: 'CONFIGURATION',
    says: /target-page-bits/,
  })),
];
