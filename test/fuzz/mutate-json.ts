/** Changes of JSON values that leave them JSON values: wrong in form or in content. PURE. */

const LEAVES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  0.5,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e300,
  '',
  '0',
  '..',
  '../../etc/passwd',
  '/etc/passwd',
  'a/b',
  'nul\0byte',
  '__proto__',
  'constructor',
  '\ud800',
  '𝕌',
  'x'.repeat(300),
  'x'.repeat(70_000),
  [],
  {},
  [[]],
  { a: 1 },
];

type Json = unknown;

/** Makes one to three changes anywhere in the tree. @param leaves more values to insert */
export function mutateJson(value: Json, random: () => number, leaves: readonly Json[] = []): Json {
  const choices = [...LEAVES, ...leaves];
  const leaf = (): Json => choices[Math.floor(random() * choices.length)];
  let changed = value;
  for (let count = 1 + Math.floor(random() * 3); count > 0; count--) {
    const places = nodesOf(changed);
    const target = Math.floor(random() * places);
    changed = change(changed, { left: target }, random, leaf);
  }
  return changed;
}

function nodesOf(value: Json): number {
  if (typeof value !== 'object' || value === null) return 1;
  return 1 + Object.values(value).reduce((sum: number, one) => sum + nodesOf(one), 0);
}

/** Changes the node that is reached after `left` others. */
function change(
  value: Json,
  location: { left: number },
  random: () => number,
  leaf: () => Json,
): Json {
  if (location.left-- === 0) return changeNode(value, random, leaf);
  if (Array.isArray(value)) return value.map((one) => change(one, location, random, leaf));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [key, change(one, location, random, leaf)]),
  );
}

function changeNode(value: Json, random: () => number, leaf: () => Json): Json {
  const below = (n: number): number => Math.floor(random() * n);
  if (Array.isArray(value) && below(3) > 0) {
    const at = below(value.length);
    const one = [
      () => value.toSpliced(at, 1),
      () => [...value, value[at]],
      () => [...value, leaf()],
    ];
    one.push(() => Array.from({ length: below(40) * below(40) }, () => value[at]));
    return one[below(one.length)]?.();
  }
  if (typeof value === 'object' && value !== null && below(3) > 0) {
    const entries = Object.entries(value);
    const at = below(entries.length);
    const [, taken] = entries[at] ?? [];
    const one = [
      () => entries.toSpliced(at, 1),
      () => [...entries, [String(leaf()), leaf()] as [string, Json]],
      () => [...entries, [`${below(9)}`, taken] as [string, Json]],
    ];
    return Object.fromEntries(one[below(one.length)]?.() ?? []);
  }
  if (typeof value === 'number' && below(2) === 0)
    return value + ([-1, 1, 2 ** 32, 0.5][below(4)] ?? 0);
  if (typeof value === 'string' && value.length > 0 && below(2) === 0) {
    const at = below(value.length);
    return value.slice(0, at) + ['', '/', '.', '\0', '0', 'f', ' '][below(7)] + value.slice(at + 1);
  }
  return leaf();
}
