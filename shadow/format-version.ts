/**
 * Versions of the files that Umbra writes, and which of them this Umbra reads. A version belongs to
 * a release, not to a change: what comes after 0.1.0 goes into the next version, as fields that may
 * be absent.
 *
 *     release   shadow.json   every other format
 *     0.1       2             1
 *     0.2       3             2                    written; read, as is the version before
 *
 *     found                        outcome
 *     newer than this one writes   E_MANIFEST_VERSION
 *     that one, or the one before  read, unless it requires an unknown feature: E_MANIFEST_FEATURE
 *     older                        E_MANIFEST_VERSION, with the releases that read it
 *
 * A file of a version that is not read is never called damaged: only a checksum, or the schema of a
 * version that is read, can say that. A reader ignores fields that it does not know. If ignoring a
 * field would change what the file means, its writer names the feature in `requires`. Binary files
 * carry no such list: the manifest that names them lists what they require.
 *
 * PURE.
 */
import { ShadowError } from './errors.ts';

/** Releases whose formats count as versions, oldest first. */
const RELEASES = ['0.1', '0.2'] as const;

/** Format of a file, and its versions. */
export interface FormatVersion {
  /** Name of the format, as in `format` of a manifest. */
  readonly name: string;
  /** Version that this Umbra writes. It reads the one before, too. */
  readonly version: number;
  /** Version that release 0.1 wrote. */
  readonly first: number;
  /** Features that a file may require and this Umbra knows. */
  readonly features?: readonly string[];
}

export const CONTAINER_FORMAT: FormatVersion = { name: 'container', version: 2, first: 1 };
export const PAGE_INDEX_FORMAT: FormatVersion = { name: 'page index', version: 2, first: 1 };

/** Tells whether this Umbra reads a version of a format: the one it writes, and the one before. */
export function isReadable({ version }: FormatVersion, found: number): boolean {
  return found === version || found === version - 1;
}

/**
 * Checks that this Umbra reads a version of a format.
 * @param path of the file, for the message
 * @throws ShadowError E_MANIFEST_VERSION
 */
export function requireVersion(format: FormatVersion, found: number, path: string): void {
  if (isReadable(format, found)) return;
  const { name, version } = format;
  const what = `${path}: ${name} version ${found}`;
  const reads = `this one reads ${version - 1} and ${version}`;
  const message =
    found > version
      ? `${what} was written by a newer Umbra; ${reads}. Use the Umbra that wrote it.`
      : `${what} was written by an older Umbra; ${reads}. ${readersOf(format, found)}`;
  throw new ShadowError('E_MANIFEST_VERSION', message, { path });
}

/**
 * Checks that this Umbra knows every feature that a file requires of its readers.
 * @param path of the file, for the message
 * @throws ShadowError E_MANIFEST_FEATURE, naming the first that is not known
 */
export function requireFeatures(
  { name, features = [] }: FormatVersion,
  required: readonly string[],
  path: string,
): void {
  const unknown = required.find((feature) => !features.includes(feature));
  if (unknown === undefined) return;
  const what = `${path}: this ${name} requires the feature "${unknown}"`;
  const message = `${what}, which this Umbra does not know. Use the Umbra that wrote it.`;
  throw new ShadowError('E_MANIFEST_FEATURE', message, { path });
}

/** Says which releases read an old version: the one that wrote it, and the next. */
function readersOf({ first }: FormatVersion, version: number): string {
  const at = version - first;
  const readers = RELEASES.slice(Math.max(0, at), at + 2);
  if (at < 0 || readers.length === 0) return 'No release reads it: take a new checkpoint.';
  return `Umbra ${readers.join(' and ')} can read it.`;
}
