/**
 * Imports run one way, no folder is a dumping ground, and files that say PURE are pure.
 *
 *     tools ─▶ daemons ─▶ coordinator ─▶ protocol ◀─ agent     member ◀─ started by agent
 *                              │             │          │         │
 *                          policies       failure   host, command-line, libvirt, shadow
 *                                                      intake ─▶ stream, host, shadow
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('..', import.meta.url));
const AREAS = ['proxy', 'qmp', 'shadow', 'policies', 'tools'];

/** Rooms that nearly every room may use: failures and messages. */
const BASE = ['proxy/failure', 'proxy/protocol'] as const;
const ON_A_HOST = [...BASE, 'proxy/host', 'shadow'] as const;
const MEMBER = [...ON_A_HOST, 'qmp'] as const;

/** Rooms that each room may import besides itself. A room is a folder; every one is listed. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  policies: [],
  shadow: [],
  'shadow/durable': ['shadow'],
  qmp: [],
  'qmp/libvirt': ['qmp'],

  // The tables of all codes are joined there; what they are beside imports nothing.
  'proxy/failure': ['proxy/stream', 'qmp', 'qmp/libvirt', 'shadow'],
  'proxy/stream': [],
  'proxy/protocol': ['proxy/failure', 'policies', 'shadow', 'shadow/durable'],
  'proxy/host': BASE,
  'proxy/libvirt': [...BASE, 'proxy/host', 'proxy/command-line'],
  'proxy/command-line': [...BASE, 'proxy/host'],
  'proxy/config': [...BASE, 'proxy/host', 'proxy/command-line', 'policies'],
  'proxy/client': [...BASE, 'proxy/host'],
  'proxy/switch': ['proxy/failure'],
  'proxy/intake': [...ON_A_HOST, 'proxy/stream'],

  'proxy/member/qemu': MEMBER,
  'proxy/member/guest-agent': [...MEMBER, 'qmp/libvirt', 'proxy/member/qemu'],
  'proxy/member/repair': [...MEMBER, 'proxy/member/qemu', 'proxy/intake'],
  'proxy/member/tracking': [...MEMBER, 'proxy/member/qemu'],
  'proxy/member/capture': [
    ...MEMBER,
    'policies',
    'proxy/member/tracking',
    'proxy/intake',
    'proxy/member/qemu',
    'proxy/member/repair',
    'proxy/stream',
  ],
  'proxy/member/restore': [...MEMBER, 'qmp/libvirt', 'proxy/libvirt', 'proxy/stream'],
  'proxy/member': [
    ...MEMBER,
    'qmp/libvirt',
    'proxy/libvirt',
    'proxy/member/capture',
    'proxy/member/guest-agent',
    'proxy/member/qemu',
    'proxy/member/repair',
    'proxy/member/restore',
    'proxy/member/tracking',
  ],

  'proxy/agent/vms': [...MEMBER, 'qmp/libvirt', 'proxy/command-line', 'proxy/libvirt'],
  'proxy/agent/store': [...ON_A_HOST, 'policies'],
  'proxy/agent/durable': [...ON_A_HOST, 'shadow/durable', 'proxy/agent/store'],
  'proxy/agent/restores': [...ON_A_HOST, 'proxy/command-line', 'proxy/config', 'proxy/agent/vms'],
  'proxy/agent': [
    ...ON_A_HOST,
    'shadow/durable',
    'proxy/agent/vms',
    'proxy/agent/store',
    'proxy/agent/durable',
    'proxy/agent/restores',
  ],

  'proxy/coordinator/rounds': [...BASE, 'policies', 'shadow'],
  'proxy/coordinator/durable': [...BASE, 'shadow', 'shadow/durable'],
  'proxy/coordinator/epochs': [
    ...BASE,
    'policies',
    'shadow',
    'proxy/coordinator/durable',
    'proxy/coordinator/rounds',
  ],
  'proxy/coordinator/restores': [
    ...BASE,
    'shadow',
    'proxy/coordinator/durable',
    'proxy/coordinator/epochs',
  ],
  'proxy/coordinator': [
    ...ON_A_HOST,
    'policies',
    'proxy/client',
    'proxy/config',
    'proxy/coordinator/rounds',
    'proxy/coordinator/durable',
    'proxy/coordinator/epochs',
    'proxy/coordinator/restores',
  ],

  'proxy/relay': [...ON_A_HOST, 'policies', 'proxy/intake', 'proxy/stream'],
  // The only room that knows coordinator and agent.
  'proxy/daemons': [...ON_A_HOST, 'proxy/agent', 'proxy/coordinator', 'proxy/config'],

  'tools/packages': [],
  'tools/qemu': ['tools/packages'],
  'tools/guest': ['tools/packages', 'tools/qemu', 'proxy/host'],
  'tools/setup': ['tools/packages', 'tools/qemu', 'tools/guest'],
  'tools/inspect': ['proxy/stream'],
  'tools/lint': [],
  'tools/reference': ['proxy'],
  'tools/cli': ['policies', 'proxy', 'qmp', 'shadow', 'tools/guest', 'tools/qemu', 'tools/setup'],
  'tools/sim': ['policies', 'proxy', 'tools/cli'],
  'tools/sim/faults': ['policies', 'proxy', 'shadow', 'tools/sim'],
  'tools/testbed/tiny': ['proxy/host'],
  'tools/testbed': ['proxy', 'qmp', 'tools/guest', 'tools/qemu', 'tools/setup'],
  'tools/demo': ['proxy', 'tools/cli', 'tools/testbed'],
  'tools/bench': ['policies', 'proxy', 'qmp', 'shadow', 'tools/cli', 'tools/sim', 'tools/testbed'],
};

/** Modules of Node that PURE files may use. */
const PURE_MAY_USE: readonly string[] = ['node:zlib', 'node:path', 'node:util'];
/** Uses of time, randomness and environment. */
const WORLD = new RegExp(
  [
    String.raw`\b(Date\.now|new Date\(\)|performance\.(now|timeOrigin)`,
    String.raw`Math\.random|setTimeout|setInterval|process\.env)`,
  ].join('|'),
);

interface Import {
  readonly from: string;
  readonly to: string;
  /** True if only types are imported, so that nothing of the file runs. */
  readonly isType: boolean;
}

const files = AREAS.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file)),
);
const imports = new Map(files.map((file) => [file, importsOf(file)]));

const test = suite('import graph');

test('every room is listed with what it may import', () => {
  const rooms = new Set(files.map((file) => dirname(file)));
  assert.equal([...rooms].filter((room) => !(room in MAY_IMPORT)).sort(), []);
  assert.equal(
    Object.keys(MAY_IMPORT).filter((room) => !rooms.has(room)),
    [],
  );
});

test('imports run one way', () => {
  const wrong = [...imports.values()].flat().filter(({ from, to }) => {
    const [source, target] = [dirname(from), dirname(to)];
    return source !== target && !mayImport(source, target);
  });
  assert.equal(
    wrong.map(({ from, to }) => `${from} → ${to}`),
    [],
  );
});

test('there is no circle between folders', () => {
  const graph = new Map<string, Set<string>>();
  for (const { from, to } of [...imports.values()].flat()) {
    const targets = graph.get(dirname(from)) ?? new Set();
    if (dirname(from) !== dirname(to)) targets.add(dirname(to));
    graph.set(dirname(from), targets);
  }
  assert.equal(circleIn(graph), undefined);
});

test('there is no circle between files, except of types', () => {
  const graph = new Map(
    [...imports].map(([file, found]) => {
      return [file, new Set(found.filter(({ isType }) => !isType).map(({ to }) => to))];
    }),
  );
  assert.equal(circleIn(graph), undefined);
});

test('a circle is found', () => {
  const graph = new Map([
    ['a', new Set(['b'])],
    ['b', new Set(['c'])],
    ['c', new Set(['b'])],
  ]);
  assert.is(circleIn(graph), 'b → c → b');
});

test('a coordinator knows neither agent, member nor libvirt', () => {
  const forbidden = /^proxy\/(agent|member|libvirt|intake|daemons|relay)\//;
  const wrong = [...imports.values()]
    .flat()
    .filter(({ from, to }) => from.startsWith('proxy/coordinator/') && forbidden.test(to));
  assert.equal(wrong, []);
});

test('proxy holds no loose file', () => {
  assert.equal(
    files.filter((file) => dirname(file) === 'proxy'),
    [],
  );
});

test('PURE files and all that they import use no time, randomness or environment', () => {
  const pure = files.filter(isPure);
  assert.ok(pure.length > 40, `${pure.length} files call themselves PURE`);
  const reached = new Map<string, string>();
  const visit = (file: string, by: string): void => {
    if (reached.has(file)) return;
    reached.set(file, by);
    for (const { to, isType } of imports.get(file) ?? []) if (!isType) visit(to, by);
  };
  for (const file of pure) visit(file, file);
  const wrong = [...reached].flatMap(([file, by]) => {
    const text = codeOf(file);
    const used = [...text.matchAll(/from '(node:[^']+)'/g)].map((match) => match[1] ?? '');
    const found = used.filter((name) => !PURE_MAY_USE.includes(name) && !isHash(text, name));
    const world = WORLD.exec(text)?.[0];
    const all = [...found, ...(world === undefined ? [] : [world])];
    return all.map((what) => `${file} uses ${what}${by === file ? '' : `, for ${by}`}`);
  });
  assert.equal(wrong, []);
});

test('nothing is called utils or common', () => {
  assert.equal(
    files.filter((file) => /(^|\/)(utils?|common|helpers?|misc)(\/|\.ts$)/.test(file)),
    [],
  );
});

/** Returns whether a room may import another; a room of `tools` may be allowed a whole area. */
function mayImport(source: string, target: string): boolean {
  const allowed = MAY_IMPORT[source] ?? [];
  const area = target.split('/')[0] ?? '';
  return allowed.includes(target) || (source.startsWith('tools/') && allowed.includes(area));
}

/** Returns whether a file uses node:crypto for digests only, which are as pure as sums. */
function isHash(text: string, module: string): boolean {
  return module === 'node:crypto' && /import \{ createHash \} from 'node:crypto'/.test(text);
}

/** Returns whether the comment at the head of a file says PURE. */
function isPure(file: string): boolean {
  const [head = ''] = /^\/\*\*[\s\S]*?\*\//.exec(readFileSync(join(root, file), 'utf8')) ?? [];
  return /\bPURE\b/.test(head);
}

function codeOf(file: string): string {
  return readFileSync(join(root, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const statement = /(?:(import|export)( type)?\b[^;'()]*from\s*|import\s*\(\s*)'(\.[^']+)'/g;
  return [...text.matchAll(statement)].map((match) => {
    const to = normalize(join(dirname(file), match[3] ?? ''));
    return { from: file, to, isType: match[2] !== undefined };
  });
}

/** Returns the first circle of a graph as `a → b → a`; undefined if there is none. */
function circleIn(graph: ReadonlyMap<string, ReadonlySet<string>>): string | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (node: string): string | undefined => {
    const at = path.indexOf(node);
    if (at >= 0) return [...path.slice(at), node].join(' → ');
    if (done.has(node)) return undefined;
    path.push(node);
    for (const next of graph.get(node) ?? []) {
      const circle = visit(next);
      if (circle !== undefined) return circle;
    }
    path.pop();
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const circle = visit(node);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

test.run();
