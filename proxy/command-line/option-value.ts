/**
 * The value of one QEMU option, to be read and changed: a list of properties, or JSON of the same.
 * PURE.
 *
 *     stream,id=net0,server=on,addr.type=unix,addr.path=/run/n0,,a.sock   a double comma is a comma
 *     {"type": "stream", "id": "net0", "server": true, "addr": {"type": "unix", "path": …}}
 *
 * Keys are dotted in both forms. A word without `=` is the value of the implied key if it comes
 * first. Elsewhere it is a switch that is on (`server`) or off (`nowait`, `noserver`). Text that
 * begins like JSON and is no object is read as a list: QEMU would not take it either.
 */

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

const OFF: ReadonlySet<string> = new Set(['off', 'no', 'false', 'n']);

/** One property of a list. */
interface Property {
  readonly key: string;
  value: string;
  /** True for a word without its key, which is implied. */
  readonly isBare: boolean;
}

/** The properties of one option. */
export class OptionValue {
  readonly #json: { [key: string]: Json } | undefined;
  /** The properties of a list, in order. If a key comes twice, the last one counts, as for QEMU. */
  #list: Property[];

  /** @param implied the key of a first word without `=` */
  constructor(text: string, implied: string) {
    this.#json = text.trimStart().startsWith('{') ? parseObject(text) : undefined;
    this.#list = this.#json === undefined ? parseList(text, implied) : [];
  }

  /** Returns every key there is, once. */
  get keys(): string[] {
    const found = this.#json === undefined ? this.#list.map(({ key }) => key) : flatten(this.#json);
    return [...new Set(found)];
  }

  /** Returns a property as text (`on` and `off` for booleans); undefined if it is not set. */
  get(key: string): string | undefined {
    if (this.#json === undefined) return this.#last(key)?.value;
    const value = key
      .split('.')
      .reduce<Json | undefined>((at, name) => (isObject(at) ? at[name] : undefined), this.#json);
    if (value === undefined || value === null || typeof value === 'object') return undefined;
    return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
  }

  /** Tells whether a property is set to anything but QEMU's words for "off". */
  isOn(key: string): boolean {
    const value = this.get(key);
    return value !== undefined && !OFF.has(value);
  }

  /** Changes a property where it is; adds one that is not set at the end. */
  set(key: string, value: string): void {
    const property = this.#last(key);
    if (this.#json !== undefined) setIn(this.#json, key.split('.'), value);
    else if (property === undefined) this.#list.push({ key, value, isBare: false });
    else property.value = value;
  }

  /** Adds the implied property before all others, in a list without its key. */
  setFirst(implied: string, value: string): void {
    if (this.#json !== undefined) setIn(this.#json, [implied], value);
    else this.#list.unshift({ key: implied, value, isBare: true });
  }

  /** Takes out a property; with a dot at the end of the key, all that are below it. */
  delete(key: string): void {
    const goes = (name: string) => name === key || (key.endsWith('.') && name.startsWith(key));
    if (this.#json !== undefined) {
      for (const name of Object.keys(this.#json)) {
        if (goes(name) || name === key.replace(/\.$/, '')) delete this.#json[name];
      }
      return;
    }
    this.#list = this.#list.filter((property) => !goes(property.key));
  }

  /** Returns the value as text for a command line, in the form in which it was read. */
  format(): string {
    if (this.#json !== undefined) return JSON.stringify(this.#json);
    return this.#list
      .map(({ key, value, isBare }, index) => {
        const text = value.replaceAll(',', ',,');
        return index === 0 && isBare ? text : `${key.replaceAll(',', ',,')}=${text}`;
      })
      .join(',');
  }

  #last(key: string): Property | undefined {
    return this.#list.findLast((property) => property.key === key);
  }
}

function parseList(text: string, implied: string): Property[] {
  const words = text.replaceAll(',,', '\0').split(',');
  return words.flatMap((word, index) => {
    const property = word.replaceAll('\0', ',');
    if (property === '' && index > 0) return []; // QEMU allows a comma at the end
    const at = property.indexOf('=');
    if (at >= 0)
      return { key: property.slice(0, at), value: property.slice(at + 1), isBare: false };
    if (index === 0) return { key: implied, value: property, isBare: true };
    const [, off] = /^no(server|wait|delay)$/.exec(property) ?? [];
    const [key, value] = off === undefined ? [property, 'on'] : [off, 'off'];
    return { key, value, isBare: false };
  });
}

function parseObject(text: string): { [key: string]: Json } | undefined {
  try {
    const value = JSON.parse(text) as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Sets a value below an object, and makes the objects on the way to it. */
function setIn(object: { [key: string]: Json }, path: readonly string[], value: string): void {
  const last = path.at(-1) ?? '';
  let at = object;
  for (const name of path.slice(0, -1)) {
    const next = at[name];
    const below = isObject(next) ? next : {};
    at[name] = below;
    at = below;
  }
  at[last] = jsonValue(value);
}

/** Returns a value with the type that QEMU insists on in JSON. */
function jsonValue(value: string): Json {
  if (value === 'on' || value === 'off') return value === 'on';
  return /^\d+$/.test(value) ? Number(value) : value;
}

function flatten(value: { readonly [key: string]: Json }, prefix = ''): string[] {
  return Object.entries(value).flatMap(([key, one]) =>
    isObject(one) ? flatten(one, `${prefix}${key}.`) : [`${prefix}${key}`],
  );
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
