/** Imports run one way, and no folder is a dumping ground. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('..', import.meta.url));
const SOURCES = ['proxy', 'qmp', 'shadow', 'policies', 'tools'];

/** What each area may import, itself apart. The most specific area a file is in decides. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  qmp: [],
  shadow: [],
  policies: [],
  'proxy/stream': [],
  'proxy/libvirt': ['proxy', 'qmp'],
  'proxy/member': ['proxy/libvirt', 'proxy/stream', 'proxy', 'qmp', 'shadow', 'policies'],
  'proxy/relay': ['proxy/stream', 'proxy/member', 'proxy', 'shadow', 'policies'],
  'proxy/agent': ['proxy/libvirt', 'proxy/member', 'proxy', 'qmp', 'shadow', 'policies'],
  'proxy/coordinator': ['proxy/agent', 'proxy/member', 'proxy', 'qmp', 'shadow', 'policies'],
  proxy: ['proxy/agent', 'proxy/coordinator', 'qmp', 'shadow', 'policies'],
  // Benchmarks are not shipped, and may use what tests use.
  'tools/bench': [
    'tools',
    'proxy',
    'proxy/agent',
    'proxy/coordinator',
    'proxy/relay',
    'qmp',
    'shadow',
    'policies',
    'test',
  ],
  tools: [
    'proxy',
    'proxy/agent',
    'proxy/member',
    'proxy/coordinator',
    'proxy/libvirt',
    'proxy/relay',
    'proxy/stream',
    'qmp',
    'shadow',
    'policies',
  ],
};

/** PURE files take time, randomness and the world as arguments. */
const PURE = [
  'policies/',
  'proxy/stream/',
  'proxy/member/capture/session.ts',
  'proxy/coordinator/rounds/phases.ts',
  'proxy/coordinator/rounds/round.ts',
  'proxy/protocol/report.ts',
  'proxy/coordinator/rounds/round-outcome.ts',
  'proxy/protocol/timeline.ts',
  'proxy/libvirt/save-image.ts',
  'proxy/relay/address.ts',
  'proxy/relay/classify.ts',
  'proxy/relay/outcome.ts',
  'proxy/relay/report.ts',
  'proxy/command-line/command-line.ts',
  'proxy/command-line/domain-memory.ts',
  'proxy/command-line/clone.ts',
  'proxy/agent/restores/cloning-agent.ts',
  'proxy/command-line/option-value.ts',
  'proxy/config/clone-config.ts',
  'proxy/config/text.ts',
  'proxy/config/units.ts',
  'proxy/config/rules.ts',
  'proxy/config/end-when.ts',
];
const PURE_MAY_USE: readonly string[] = ['node:zlib', 'node:path'];

interface Import {
  readonly from: string;
  readonly to: string;
}

const files = SOURCES.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file)),
);

const test = suite('import graph');

test('imports run one way', () => {
  const wrong = files.flatMap(importsOf).filter(({ from, to }) => {
    const [source, target] = [areaOf(from), areaOf(to)];
    return source !== target && !(MAY_IMPORT[source] ?? []).includes(target);
  });
  assert.equal(
    wrong.map(({ from, to }) => `${from} → ${to}`),
    [],
  );
});

test('a coordinator knows an agent by its contract only', () => {
  const wrong = files
    .filter((file) => file.startsWith('proxy/coordinator/'))
    .flatMap(importsOf)
    .filter(({ to }) => /^proxy\/(agent|member)\//.test(to))
    .filter(({ to }) => !['proxy/protocol/agent.ts', 'proxy/protocol/member.ts'].includes(to));
  assert.equal(wrong, []);
});

test('there are no cycles', () => {
  const graph = new Map(files.map((file) => [file, importsOf(file).map(({ to }) => to)]));
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    assert.not(path.includes(file), `cycle: ${[...path, file].join(' → ')}`);
    if (done.has(file)) return;
    path.push(file);
    for (const next of graph.get(file) ?? []) visit(next);
    path.pop();
    done.add(file);
  };
  for (const file of files) visit(file);
});

test('pure code reaches for nothing', () => {
  const pure = files.filter((file) => PURE.some((prefix) => file.startsWith(prefix)));
  assert.ok(pure.length > 10);
  for (const file of pure) {
    const text = readFileSync(join(root, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    const used = [...text.matchAll(/from '(node:[^']+)'/g)].map((match) => match[1] ?? '');
    assert.equal(
      used.filter((name) => !PURE_MAY_USE.includes(name)),
      [],
      file,
    );
    const world = /\b(Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|setInterval)/;
    assert.not.match(text, world, file);
  }
});

test('nothing is called utils or common', () => {
  assert.equal(
    files.filter((file) => /(^|\/)(utils?|common|helpers?|misc)(\/|\.ts$)/.test(file)),
    [],
  );
});

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) => {
    const to = normalize(join(dirname(file), match[1] ?? ''));
    return { from: file, to: relative('.', to) };
  });
}

function areaOf(file: string): string {
  const two = file.split('/').slice(0, 2).join('/');
  return two in MAY_IMPORT ? two : (file.split('/')[0] ?? '');
}

test.run();
