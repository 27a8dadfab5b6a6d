/** Cuts of a stream into chunks: whole, byte by byte, and at random places from a seed. */
export interface Cut {
  readonly name: string;
  readonly chunks: (stream: Buffer) => Iterable<Buffer>;
}

/** Returns a small seeded generator (mulberry32): 0 ≤ value < 1. */
export function prng(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function* bySize(stream: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < stream.length; at += size) yield stream.subarray(at, at + size);
}

export function* atRandom(stream: Buffer, seed: number, most = 6000): Generator<Buffer> {
  const random = prng(seed);
  let at = 0;
  while (at < stream.length) {
    // Mostly short, sometimes empty, now and then over a page.
    const size = Math.floor(random() ** 3 * most);
    yield stream.subarray(at, at + size);
    at += size;
  }
}

export const CUTS: readonly Cut[] = [
  { name: 'whole', chunks: (stream) => [stream] },
  { name: 'byte by byte', chunks: (stream) => bySize(stream, 1) },
  { name: 'by 4095', chunks: (stream) => bySize(stream, 4095) },
  ...[1, 2, 3, 4, 5, 6].map((seed) => ({
    name: `at random, seed ${seed}`,
    chunks: (stream: Buffer) => atRandom(stream, seed),
  })),
];
