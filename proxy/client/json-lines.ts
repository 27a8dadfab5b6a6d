/** Lines of JSON out of a stream of bytes, however it is cut. PURE. */

/** The longest line: a report of ten thousand members has less. */
const LINE_LIMIT_CHARS = 64 * 1024 * 1024;

/**
 * Yields the value of each line; of what follows the last end of line, too.
 * @throws SyntaxError a line is no JSON; RangeError a line is too long
 */
export async function* jsonLines(
  chunks: AsyncIterable<Uint8Array>,
  limitChars = LINE_LIMIT_CHARS,
): AsyncGenerator<unknown> {
  let rest: string[] = [];
  let length = 0;
  const decoder = new TextDecoder();
  for await (const chunk of chunks) {
    const [first = '', ...others] = decoder.decode(chunk, { stream: true }).split('\n');
    rest.push(first);
    length += first.length;
    if (length > limitChars) throw new RangeError(`a line is longer than ${limitChars}`);
    for (const next of others) {
      const line = rest.join('');
      rest = [next];
      length = next.length;
      if (line !== '') yield JSON.parse(line);
    }
  }
  if (length > 0) yield JSON.parse(rest.join(''));
}
