/**
 * Every length that comes off the wire is checked against one of these before it is used.
 * Lengths that the format itself bounds need none: a page, an XBZRLE page (at most a page), a
 * zlib page (at most zlib's compressBound of a page) all follow from `pageBytes`.
 */
export interface StreamLimits {
  /** Target page size, bytes; a power of two. */
  readonly pageBytes: number;
  /** Machine type name, bytes. */
  readonly machineTypeBytes: number;
  /** Whole CONFIGURATION section with its subsections, bytes. */
  readonly configurationBytes: number;
  /** Names of sections, RAM blocks, subsections and capabilities, bytes; the wire allows 255. */
  readonly idstrBytes: number;
  /** RAM blocks in the list. */
  readonly blockCount: number;
  /** Sum of all RAM blocks, bytes. */
  readonly ramBytes: number;
  /** Device state, from the first FULL to the EOF byte, bytes. */
  readonly tailBytes: number;
  /** VMDESC JSON, bytes. */
  readonly vmdescBytes: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;
const TiB = 1024 * 1024 * MiB;

export const DEFAULT_LIMITS: StreamLimits = {
  pageBytes: 64 * KiB,
  machineTypeBytes: 256,
  configurationBytes: 16 * KiB,
  idstrBytes: 255,
  blockCount: 4096,
  ramBytes: 16 * TiB,
  tailBytes: 64 * MiB,
  vmdescBytes: 16 * MiB,
};

/** Hard ends of each limit: [least, most]. Offsets stay exact below 2^53; buffers below 2 GiB. */
const BOUNDS: { readonly [K in keyof StreamLimits]: readonly [number, number] } = {
  pageBytes: [KiB, 64 * KiB],
  machineTypeBytes: [1, 64 * KiB],
  configurationBytes: [16, MiB],
  idstrBytes: [3, 255],
  blockCount: [1, 65536],
  ramBytes: [KiB, 4096 * TiB],
  tailBytes: [1, 1024 * MiB],
  vmdescBytes: [2, 256 * MiB],
};

/**
 * Completes limits with the defaults.
 * @throws RangeError naming the limit that is not an integer within its hard bounds
 */
export function verifyLimits(limits: Partial<StreamLimits> = {}): StreamLimits {
  const verified: StreamLimits = { ...DEFAULT_LIMITS, ...limits };
  for (const name of Object.keys(verified)) {
    if (!isLimit(name)) throw new RangeError(`Unknown stream limit "${name}"`);
    const [least, most] = BOUNDS[name];
    const value = verified[name];
    if (!Number.isSafeInteger(value) || value < least || value > most) {
      throw new RangeError(`Stream limit ${name} is ${value}, must be ${least} to ${most}`);
    }
  }
  return verified;
}

function isLimit(name: string): name is keyof StreamLimits {
  return Object.hasOwn(BOUNDS, name);
}
