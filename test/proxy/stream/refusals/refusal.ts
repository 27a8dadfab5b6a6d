/** A stream that is refused, and what such streams are made of. */
import type { StreamErrorCode } from '../../../../proxy/stream/errors.ts';
import type { StreamLimits } from '../../../../proxy/stream/limits.ts';
import * as b from '../builder.ts';

export interface Refusal {
  readonly name: string;
  readonly stream: Buffer;
  readonly code: StreamErrorCode;
  readonly section: string;
  /** Must be in the message: what was seen, by name. */
  readonly says: RegExp;
  readonly limits?: Partial<StreamLimits>;
}

export const list = b.join(b.blockList(b.BLOCKS), b.EOS);
export const begun = b.join(b.header, b.configuration(), b.start(list));
export const inPart = (...items: Buffer[]): Buffer => b.join(begun, b.part(...items));
export const config = (...subsections: Buffer[]): Buffer =>
  b.join(b.header, b.configuration('pc', ...subsections), b.start(list));
export const afterHeader = (...parts: Buffer[]): Buffer =>
  b.join(b.header, b.configuration(), ...parts, Buffer.alloc(64));
export const listing = (payload: Buffer): Buffer => afterHeader(b.start(payload));
export const base = b.page(0, b.pattern(1), 'pc.ram');

/** The section that pages are in. */
export const ram = 'ram PART';
