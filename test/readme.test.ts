/** READMEs name files that exist, every room has one, and the first can be read in one sitting. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('..', import.meta.url));
const AREAS = ['proxy', 'qmp', 'shadow', 'policies', 'tools', 'test'];
const README_LINES_MAX = 140;
/** Folders of data, or of fewer sources than a README would describe. */
const WITHOUT_README =
  /^(tools\/systemd|test\/(policies|proxy|qmp|runner|shadow|tools)|tools\/guest\/(src|root.*))\b/;
/** A link: `[text](target)`; targets of the web and of the page itself are not checked. */
const LINK = /\]\((?!https?:|mailto:|#)([^)\s#]+)(?:#[^)\s]*)?\)/g;
/** A path from the repository's root, in code. */
const PATH = new RegExp(`(?<=[\`\\s(])(?:${AREAS.join('|')})/[\\w./-]*\\w`, 'g');
/** A command of npm, in code: a script, and the words that choose tests. */
const NPM = /npm (?:run (?:--silent )?(?<script>[\w:-]+)|test -- (?<words>[\w/-]+(?: [\w/-]+)*))/g;
/** A source file named in code: `file.ts`, `folder/file.ts`. */
const SOURCE = /(?<=[`\s,(])((?:[\w.-]+\/)*[\w.-]+\.(?:ts|mjs|md))(?=[`\s,;:)])/g;

/** Returns the paths of all documents, relative to the repository. */
function documents(): string[] {
  const below = AREAS.flatMap((area) =>
    readdirSync(join(root, area), { recursive: true, encoding: 'utf8' }).map((file) =>
      join(area, file),
    ),
  );
  return ['README.md', 'CHANGELOG.md', ...below.filter((file) => file.endsWith('.md'))];
}

const textOf = (file: string) => readFileSync(join(root, file), 'utf8');

/** Returns the code of a document: blocks and `spans`. */
function codeOf(text: string): string {
  return [...text.matchAll(/```[\s\S]*?```|`[^`\n]+`/g)].map(([code]) => code).join('\n');
}

/** Returns true if a document may name a file so: from its folder, a folder above, or below. */
function isNamed(document: string, name: string): boolean {
  for (let folder = dirname(document); ; folder = dirname(folder)) {
    if (existsSync(join(root, folder, name))) return true;
    if (folder === '.') break;
  }
  const folder = dirname(document);
  if (name.includes('/') || folder === '.') return false;
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).some((file) =>
    file.endsWith(`/${name}`),
  );
}

const tests = suite('readme');

tests('every relative link of a document leads to a file or a folder', () => {
  const broken = documents().flatMap((document) =>
    [...textOf(document).matchAll(LINK)]
      .map(([, target = '']) => target)
      .filter((target) => !existsSync(join(root, dirname(document), target)))
      .map((target) => `${document}: ${target}`),
  );
  assert.equal(broken, []);
});

tests('every source file that a document names in code exists', () => {
  const missing = documents()
    .filter((document) => document !== 'CHANGELOG.md') // names files as they were then
    .flatMap((document) =>
      [...codeOf(textOf(document)).matchAll(SOURCE)]
        .map(([, name = '']) => name)
        .filter((name) => !isNamed(document, name))
        .map((name) => `${document}: ${name}`),
    );
  assert.equal([...new Set(missing)], []);
});

tests('every path from the root that a document names in code exists', () => {
  const missing = documents()
    .filter((document) => document !== 'CHANGELOG.md')
    .flatMap((document) =>
      [...codeOf(textOf(document)).replaceAll(NPM, '').matchAll(PATH)]
        .map(([path]) => path)
        .filter(
          (path) => ![path, `test/${path}.test.ts`].some((one) => existsSync(join(root, one))),
        )
        .map((path) => `${document}: ${path}`),
    );
  assert.equal([...new Set(missing)], []);
});

tests('every npm script and every test that a document names exists', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  const files = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.test.ts'),
  );
  const isThere = (words: string) =>
    words === 'unit' || files.some((file) => words.split(' ').every((word) => file.includes(word)));
  const missing = documents().flatMap((document) =>
    [...codeOf(textOf(document)).matchAll(NPM)].flatMap(({ groups: { script, words } = {} }) => {
      const known = script === undefined || script in scripts;
      if (known && (words === undefined || isThere(words.trim()))) return [];
      return [`${document}: ${script ?? words}`];
    }),
  );
  assert.equal(missing, []);
});

tests('every room has a README', () => {
  const rooms = new Set<string>();
  for (const area of AREAS) {
    for (const entry of readdirSync(join(root, area), { withFileTypes: true })) {
      if (entry.isDirectory()) rooms.add(join(area, entry.name));
    }
  }
  const without = [...rooms].filter(
    (room) => !WITHOUT_README.test(room) && !existsSync(join(root, room, 'README.md')),
  );
  assert.equal(without, []);
});

tests('the manual of the umbra command has every command and every variable', () => {
  const manual = textOf('tools/cli/README.md');
  const commands = [...textOf('tools/cli/main.ts').matchAll(/command\('([a-z]+)'(?!, \{ hidden)/g)];
  assert.ok(commands.length > 10);
  const missing = commands.filter(([, name]) => !new RegExp(`^\\| \`${name}\\b`, 'm').test(manual));
  assert.equal(
    missing.map(([, name]) => name),
    [],
  );
  for (const variable of ['UMBRA_HOME', 'UMBRA_LOG']) assert.match(manual, `| \`${variable}\` |`);
});

tests(`README.md has at most ${README_LINES_MAX} lines`, () => {
  const lines = textOf('README.md').trimEnd().split('\n').length;
  assert.ok(lines <= README_LINES_MAX, `${lines} lines`);
});

tests.run();
