/**
 * The rules of plain English that a program can check. PURE.
 *
 *     columns     no line is longer than 100 characters
 *     docstring   of a function: begins with a verb in the third person ("Returns", "Writes")
 *                 of anything: does not begin with a preposition or a question word
 *     persons     processes are not people: no who, whoever, nobody, somebody, anyone …
 *     spread      a literal is not spread into another one to save lines
 *
 * It reads text and not syntax: what a docstring belongs to is told by the line after it.
 */
import { type Finding, lineAt } from './finding.ts';

const COLUMNS_MAX = 100;

const DOCSTRING = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/[ \t]*\n([^\n]*(?:\n[^\n]*)?)/g;
/** A line that begins a function, a method or an accessor. */
const FUNCTION = new RegExp(
  [
    String.raw`^\s*(?:export\s+)?(?:async\s+)?function\b`,
    String.raw`^\s*(?:(?:static|async|override|private|protected)\s+)*(?:get|set)\s+#?\w+\(`,
    String.raw`^\s*(?:(?:static|async|override|private|protected)\s+)*\*?#?\w+(?:<[^>\n]*>)?\(`,
    String.raw`^\s*(?:export\s+)?const\s+\w+\s*=\s*(?:async\s*)?(?:\([^)\n]*\)|\w+)\s*=>`,
  ].join('|'),
);
const NO_FUNCTION = /^\s*(?:if|for|while|switch|return|throw|await|constructor|test|super)\b/;
const NO_BEGINNING =
  /^(?:Of|By|To|In|From|At|On|For|With|As|What|Who|Whose|Whom|Where|How|Why|Whether|That|Which|If|When|Or|And|But|Also|Then|Else|It|Its|They|Their|He|His)\b/;
/** Plurals and other words in -s that are no verbs. */
const NO_VERB = new Set([
  ...'As Always Bytes Pages Members Names Milliseconds Microseconds Seconds Sockets Files'.split(
    ' ',
  ),
  ...'Folders Processes Frames Its This Thus Less Does Was Is Epochs Rounds Shadows'.split(' '),
]);
const PERSONS =
  /\b(?:who|whom|whoever|whomever|nobody|somebody|someone|anybody|anyone|everybody|everyone|no one)\b/gi;
/** `nobody` is a Unix user, too. */
const UNIX_USER = /user[^.]{0,20}\bnobody\b|'nobody'|"nobody"|`nobody`|nobody:/;
const SPREAD = /\.\.\.(?:\{(?![^{}]*(?:&&|\?))[^{}]*\}|\[[^[\]]*\](?!\s*[.[(]))/g;

/** Returns what breaks a rule in the text of a TypeScript file. */
export function checkProse(text: string): Finding[] {
  return [...columns(text), ...docstrings(text), ...persons(text), ...spreads(text)].sort(
    (a, b) => a.line - b.line,
  );
}

function columns(text: string): Finding[] {
  return text.split('\n').flatMap((line, index) => {
    const length = [...line].length;
    if (length <= COLUMNS_MAX) return [];
    const message = `${length} columns; ${COLUMNS_MAX} is the most`;
    return [{ line: index + 1, rule: 'columns' as const, message }];
  });
}

function docstrings(text: string): Finding[] {
  return [...text.matchAll(DOCSTRING)].flatMap((match) => {
    const [, comment = '', next = ''] = match;
    const words = comment.replaceAll(/^[ \t]*\*/gm, '').trim();
    if (words === '') return [];
    const line = lineAt(text, match.index);
    const first = /^[\w'’-]+/.exec(words)?.[0] ?? '';
    if (NO_BEGINNING.test(words)) {
      const message = `a docstring that begins with "${first}"; begin with a verb or a noun`;
      return [{ line, rule: 'docstring' as const, message }];
    }
    const isFunction = FUNCTION.test(next) && !NO_FUNCTION.test(next);
    if (!isFunction || /^@(?:throws|param)\b/.test(words) || isThirdPerson(first)) return [];
    const message = `a function's docstring that begins with "${first}", no verb ("Returns", …)`;
    return [{ line, rule: 'docstring' as const, message }];
  });
}

function isThirdPerson(word: string): boolean {
  return /^[A-Z][a-z-]+s$/.test(word) && !NO_VERB.has(word);
}

function persons(text: string): Finding[] {
  return [...text.matchAll(PERSONS)].flatMap((match) => {
    const line = lineAt(text, match.index);
    if (UNIX_USER.test(text.split('\n')[line - 1] ?? '')) return [];
    const message = `"${match[0]}": name the process, the VM or the operator`;
    return [{ line, rule: 'persons' as const, message }];
  });
}

function spreads(text: string): Finding[] {
  return [...text.matchAll(SPREAD)].map((match) => {
    const message = 'a literal spread into another: write its parts';
    return { line: lineAt(text, match.index), rule: 'spread' as const, message };
  });
}
