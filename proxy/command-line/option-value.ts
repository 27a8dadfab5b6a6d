/**
 * The value of one QEMU option, to be read and changed: a list of properties, or JSON of the same. PURE.
 *
 *     stream,id=net0,server=on,addr.type=unix,addr.path=/run/n0,,a.sock      a doubled comma is a comma
 *     {"type": "stream", "id": "net0", "server": true, "addr": {"type": "unix", "path": …}}
 *
 * Keys are dotted in both. A word without `=` is the implied key's value if it comes first, else a switch
 * that is on (`server`), or off (`nowait`, `noserver`).
 */

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

const OFF: ReadonlySet<string> = new Set(['off', 'no', 'false', 'n']);

export class OptionValue {
  readonly #json: { [key: string]: Json } | undefined;
  /** The first word came without a key. */
  readonly #bare: boolean;
  /** In order; a key may come twice, and then the last counts, as for QEMU. */
  readonly #entries: [key: string, value: string][];

  /** @param implied the key of a first word without `=` */
  constructor(text: string, implied: string) {
    this.#json = text.trimStart().startsWith('{') ? parseObject(text) : undefined;
    this.#entries = this.#json === undefined ? parseList(text, implied) : [];
    this.#bare = !/^[^,]*=/.test(text);
  }

  get keys(): string[] {
    const found =
      this.#json === undefined ? this.#entries.map(([key]) => key) : flatten(this.#json);
    return [...new Set(found)];
  }

  get(key: string): string | undefined {
    if (this.#json === undefined) return this.#entries.findLast(([name]) => name === key)?.[1];
    const value = key
      .split('.')
      .reduce<Json | undefined>((at, name) => (isObject(at) ? at[name] : undefined), this.#json);
    if (value === undefined || value === null || typeof value === 'object') return undefined;
    return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
  }

  isOn(key: string): boolean {
    const value = this.get(key);
    return value !== undefined && !OFF.has(value);
  }

  set(key: string, value: string): void {
    if (this.#json !== undefined) {
      const names = key.split('.');
      const last = names.pop() ?? '';
      let at = this.#json;
      for (const name of names) {
        const next = at[name];
        const below = isObject(next) ? next : {};
        at[name] = below;
        at = below;
      }
      at[last] = jsonValue(value);
      return;
    }
    const entry = this.#entries.findLast(([name]) => name === key);
    if (entry === undefined) this.#entries.push([key, value]);
    else entry[1] = value;
  }

  /** Takes out a key, or with a trailing dot all below it. */
  delete(key: string): void {
    const gone = (name: string) => name === key || (key.endsWith('.') && name.startsWith(key));
    if (this.#json !== undefined) {
      for (const name of Object.keys(this.#json)) {
        if (gone(name) || name === key.replace(/\.$/, '')) delete this.#json[name];
      }
      return;
    }
    const kept = this.#entries.filter(([name]) => !gone(name));
    this.#entries.splice(0, this.#entries.length, ...kept);
  }

  format(): string {
    if (this.#json !== undefined) return JSON.stringify(this.#json);
    return this.#entries
      .map(([key, value], index) => {
        const text = value.replaceAll(',', ',,');
        return index === 0 && this.#bare ? text : `${key}=${text}`;
      })
      .join(',');
  }
}

/** JSON has types, and QEMU insists on them. */
function jsonValue(value: string): Json {
  if (value === 'on' || value === 'off') return value === 'on';
  return /^\d+$/.test(value) ? Number(value) : value;
}

function parseList(text: string, implied: string): [string, string][] {
  const words = text.replaceAll(',,', '\0').split(',');
  return words.map((word, index) => {
    const property = word.replaceAll('\0', ',');
    const at = property.indexOf('=');
    if (at >= 0) return [property.slice(0, at), property.slice(at + 1)];
    if (index === 0) return [implied, property];
    const [, off] = /^no(server|wait|delay)$/.exec(property) ?? [];
    return off === undefined ? [property, 'on'] : [off, 'off'];
  });
}

/** What is no object QEMU would not take, either: it has no keys. */
function parseObject(text: string): { [key: string]: Json } | undefined {
  try {
    const value = JSON.parse(text) as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function flatten(value: { readonly [key: string]: Json }, prefix = ''): string[] {
  return Object.entries(value).flatMap(([key, one]) =>
    isObject(one) ? flatten(one, `${prefix}${key}.`) : [`${prefix}${key}`],
  );
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
