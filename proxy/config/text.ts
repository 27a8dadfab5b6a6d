/** The text of cluster.yaml: its length is limited, its YAML parsed. PURE. */
import { LineCounter, parseDocument } from 'yaml';

/** A thousand members with command lines of 4 KiB. A longer text would take minutes to parse. */
export const CONFIG_LIMIT_BYTES = 4 * 2 ** 20;
/** Expansions of `*aliases`: more are an attack on the parser (yaml, `maxAliasCount`). */
const ALIASES_MAX = 100;
const ERRORS_TOLD = 20;

export type ParsedText =
  | { readonly value: unknown; readonly problems?: undefined }
  | { readonly problems: readonly string[] };

/** Parses a text. Never throws: problems are returned. */
export function parseText(text: string): ParsedText {
  const bytes = Buffer.byteLength(text);
  if (bytes > CONFIG_LIMIT_BYTES) {
    return { problems: [`${bytes} bytes are more than the limit, ${CONFIG_LIMIT_BYTES}`] };
  }
  try {
    const lines = new LineCounter();
    // The parser's own way to locate errors takes minutes when there are thousands of them.
    const options = { lineCounter: lines, prettyErrors: false, logLevel: 'error' } as const;
    const document = parseDocument(text, options);
    const problems = document.errors.slice(0, ERRORS_TOLD).map(({ message, pos }) => {
      const { line, col } = lines.linePos(pos[0]);
      return `${firstLine(message)} at line ${line}, column ${col}`;
    });
    return problems.length > 0
      ? { problems }
      : { value: document.toJS({ maxAliasCount: ALIASES_MAX }) };
  } catch (error) {
    // An alias of nothing, too many aliases, or a nesting deeper than the stack.
    return { problems: [firstLine((error as Error).message)] };
  }
}

function firstLine(message: string): string {
  return message.split('\n')[0] ?? '';
}
