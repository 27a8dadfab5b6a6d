/**
 * Parts of documents that are made from the sources, and how they are inserted. PURE.
 */
import { referenceOf } from '../../proxy/config/explain.ts';

/** A document with a part, between two markers, that is made from the sources. */
export interface Document {
  /** Its path in the repository. */
  readonly file: string;
  /** The name of its markers. */
  readonly marker: string;
  /** Makes the part. */
  readonly part: () => string;
}

export const DOCUMENTS: readonly Document[] = [
  { file: 'proxy/config/README.md', marker: 'reference', part: referenceOf },
];

/**
 * Replaces the part between its markers, `<!-- NAME…-->` and `<!-- /NAME -->`.
 * @returns the text of the whole document
 * @throws Error if the text has no such markers
 */
export function withPart(text: string, marker: string, part: string): string {
  const pattern = new RegExp(`(<!-- ${marker}\\b[^>]*-->\\n)[\\s\\S]*?(<!-- /${marker} -->)`);
  if (!pattern.test(text)) throw new Error(`no markers ${marker}`);
  return text.replace(pattern, (_, start: string, end: string) => `${start}\n${part}\n\n${end}`);
}
