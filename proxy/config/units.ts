/** Sizes and durations as operators write them. PURE. */

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
};

export const SIZE_HELP = `a size with its unit (${Object.keys(SIZE_UNITS).join(', ')}), as 512MiB`;
export const DURATION_HELP = `a duration with its unit (${Object.keys(DURATION_UNITS).join(', ')})`;

/** Parses `512MiB`, `1.5 GiB`, `100MB` into bytes. Returns undefined for anything else. */
export function parseSize(text: string): number | undefined {
  return parseQuantity(text, SIZE_UNITS);
}

/** Parses `250ms`, `10s`, `5min`, `1h` into milliseconds. Returns undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  return parseQuantity(text, DURATION_UNITS);
}

/** Writes bytes in the largest unit that leaves no fraction, as `64MiB`. */
export function formatSize(bytes: number): string {
  return formatQuantity(bytes, SIZE_UNITS);
}

/** Writes milliseconds in the largest unit that leaves no fraction, as `10s`. */
export function formatDuration(ms: number): string {
  return formatQuantity(ms, DURATION_UNITS);
}

function parseQuantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text.trim());
  const factor = units[match?.[2] ?? ''];
  return factor === undefined ? undefined : Math.round(Number(match?.[1]) * factor);
}

function formatQuantity(value: number, units: Readonly<Record<string, number>>): string {
  const whole = Object.entries(units).filter(([, factor]) => value % factor === 0);
  const [[unit, factor] = ['', 1]] = whole.sort(([, a], [, b]) => b - a);
  return `${value / factor}${unit}`;
}
