/** The text of a YAML file: limited in length, parsed, and its parts located. PURE. */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
} from 'yaml';

/** A thousand members with command lines of 4 KiB. A longer text would take minutes to parse. */
export const CONFIG_LIMIT_BYTES = 4 * 2 ** 20;
/** Expansions of `*aliases`: more are an attack on the parser (yaml, `maxAliasCount`). */
const ALIASES_MAX = 100;
const ERRORS_TOLD = 20;

/**
 * Returns the line of the part at a path, from 1; of the innermost part around it that is there;
 * undefined if none is.
 */
export type LineOf = (path: readonly PropertyKey[]) => number | undefined;

export type ParsedText =
  | { readonly value: unknown; readonly lineOf: LineOf; readonly problems?: undefined }
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
    if (problems.length > 0) return { problems };
    const value: unknown = document.toJS({ maxAliasCount: ALIASES_MAX });
    return { value, lineOf: (path) => lineIn(document, lines, path) };
  } catch (error) {
    // An alias of nothing, too many aliases, or a nesting deeper than the stack.
    return { problems: [firstLine((error as Error).message)] };
  }
}

function firstLine(message: string): string {
  return message.split('\n')[0] ?? '';
}

function lineIn(
  document: Document,
  lines: LineCounter,
  path: readonly PropertyKey[],
): number | undefined {
  let node: unknown = document.contents;
  let offset = path.length === 0 ? offsetOf(node) : undefined;
  for (const part of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find((one) => isPair(one) && keyOf(one.key) === String(part));
      if (pair === undefined) break;
      offset = offsetOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(part)];
      if (node === undefined) break;
      offset = offsetOf(node) ?? offset;
    } else {
      break;
    }
  }
  return offset === undefined ? undefined : lines.linePos(offset).line;
}

function keyOf(key: unknown): string {
  return String(isScalar(key) ? key.value : key);
}

function offsetOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
