/**
 * Old spellings, each with the one that took its place. PURE.
 *
 * 0.1.0 wrote them to `--json` and reports. A cluster.yaml or a request that holds one is refused with
 * a coded error that names the new spelling.
 */
export interface Renamed {
  /** Old value → new value, by the name of the field or option that holds it. */
  readonly values: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Old name of a field or option → new name. */
  readonly fields: Readonly<Record<string, string>>;
}

const RENAMED: Renamed = {
  values: {
    cut: { 'all stopped': 'all-stopped', 'frames held': 'frames-held' },
    state: { 'let go': 'released' },
  },
  fields: { protocol: 'cut' },
};

/** Returns the present spelling of a value, or undefined if it never had another. */
export function newValue(field: string, value: unknown): string | undefined {
  const values = Object.hasOwn(RENAMED.values, field) ? RENAMED.values[field] : undefined;
  if (values === undefined || typeof value !== 'string') return undefined;
  return Object.hasOwn(values, value) ? values[value] : undefined;
}

/** Returns the present name of a field, or undefined if it never had another. */
export function newField(name: string): string | undefined {
  return Object.hasOwn(RENAMED.fields, name) ? RENAMED.fields[name] : undefined;
}
