/** Changes of inputs of unknown format. PURE: all randomness comes from an argument. */

const INTERESTING: readonly number[] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x10, 0x20, 0x22, 0x28, 0x2e, 0x2f, 0x40, 0x5c, 0x60, 0x7b, 0x7d,
  0x7e, 0x7f, 0x80, 0xff,
];
const EDGES: readonly number[] = [
  0,
  1,
  0x7f,
  0xff,
  0x7fff,
  0xffff,
  0x10000,
  2 ** 20,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
];

/**
 * Makes one to four changes.
 * @param other another input, parts of which may be copied
 * @param words texts and bytes that may be inserted
 */
export function mutateBytes(
  input: Buffer,
  other: Buffer,
  words: readonly (string | Buffer)[],
  random: () => number,
): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let count = 1 + Math.floor(random() * 4); count > 0; count--) {
    bytes = mutateOnce(bytes, other, words, random);
  }
  return bytes;
}

function mutateOnce(
  bytes: Buffer,
  other: Buffer,
  words: readonly (string | Buffer)[],
  random: () => number,
): Buffer {
  const below = (n: number): number => Math.floor(random() * n);
  const at = placeIn(bytes.length, random);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (below(10)) {
    case 0:
      if (after.length > 0) after[0] = INTERESTING[below(INTERESTING.length)] ?? 0;
      return bytes;
    case 1:
      if (after.length > 0) after[0] = (after[0] ?? 0) ^ (1 << below(8));
      return bytes;
    case 2: // A wrong length.
      if (after.length >= 4) {
        const value = below(2) === 0 ? below(70_000) : (EDGES[below(EDGES.length)] ?? 0);
        if (below(2) === 0) after.writeUInt32BE(value);
        else after.writeUInt32LE(value);
      }
      return bytes;
    case 3: // A page's offset, with its flags.
      if (after.length >= 8) {
        const value =
          BigInt(below(64)) * 4096n + BigInt(INTERESTING[below(INTERESTING.length)] ?? 0);
        if (below(2) === 0) after.writeBigUInt64BE(value);
        else after.writeBigUInt64LE(value);
      }
      return bytes;
    case 4: // Cut.
      return bytes.subarray(0, below(bytes.length + 1));
    case 5: // Left out.
      return Buffer.concat([before, after.subarray(1 + below(40))]);
    case 6: {
      // Repeated, maybe elsewhere.
      const from = placeIn(bytes.length, random);
      return Buffer.concat([before, bytes.subarray(from, from + 1 + below(200)), after]);
    }
    case 7: {
      const from = placeIn(other.length, random);
      const taken = other.subarray(from, from + 1 + below(400));
      return Buffer.concat([before, taken, after.subarray(below(2) * taken.length)]);
    }
    case 8: {
      const word = words[below(words.length)] ?? '';
      return Buffer.concat([before, Buffer.from(word), after]);
    }
    default: {
      const garbage = Buffer.from(Array.from({ length: 1 + below(50) }, () => below(256)));
      return Buffer.concat([before, garbage, after]);
    }
  }
}

/** Returns an offset, more often near the start or the end, where most of the structure is. */
function placeIn(length: number, random: () => number): number {
  const kind = random();
  if (kind < 0.25) return Math.floor(random() * Math.min(length, 400));
  if (kind < 0.5) return Math.max(0, length - 1 - Math.floor(random() * Math.min(length, 1000)));
  return Math.floor(random() * length);
}
