/** The releases of Debian that the set-up knows, and which of them this system is. */
import { readFile } from 'node:fs/promises';
import { SetupError } from './errors.ts';

export interface DebianRelease {
  readonly version: 12 | 13;
  /** Name of its suite. */
  readonly codename: 'bookworm' | 'trixie';
  /** Suite of the newer packages that Debian builds for it. */
  readonly backports: string;
}

export const DEBIAN_RELEASES: readonly DebianRelease[] = [
  { version: 12, codename: 'bookworm', backports: 'bookworm-backports' },
  { version: 13, codename: 'trixie', backports: 'trixie-backports' },
];

/**
 * Returns the release of this system. Tests pass the text of their own os-release(5).
 * @throws SetupError SETUP_RELEASE_UNKNOWN
 */
export async function systemRelease(osRelease?: string): Promise<DebianRelease> {
  const text = osRelease ?? (await readFile('/etc/os-release', 'utf8').catch(() => ''));
  const codename = fieldOf(text, 'VERSION_CODENAME');
  const found = DEBIAN_RELEASES.find((release) => release.codename === codename);
  if (found !== undefined) return found;
  const known = DEBIAN_RELEASES.map(({ version }) => version).join(' or ');
  const name = fieldOf(text, 'PRETTY_NAME') ?? 'another system';
  throw new SetupError('SETUP_RELEASE_UNKNOWN', `Debian ${known} is needed, this is ${name}`);
}

function fieldOf(text: string, name: string): string | undefined {
  return new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1];
}
