/**
 * Folders that hold guests' memory, or sockets that lead to it. Their path may be known to every
 * user (/dev/shm/umbra-1000), and the folder may be there before Umbra: the user that made it could
 * read, or replace, what is put there. A folder is therefore used only if it is
 *
 *     own       a folder and not a link, of our user, closed to all others          0700
 *     trusted   of our user or root, and no other user may write to it              e.g. 0755
 *
 * A link that leads to a folder is trusted as its owner is. Folders above are not checked: in
 * /dev/shm and /tmp no other user can rename what is ours (sticky bit).
 */
import { lstatSync, mkdirSync, type Stats, statSync } from 'node:fs';
import { ShadowError } from './errors.ts';

const OF_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Makes a folder of our own, unless it is there.
 * @throws ShadowError E_FOLDER_UNSAFE; errors of the system
 */
export function makeOwnFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stats = lstatSync(path);
  if (!stats.isDirectory()) throw unsafe(path, 'is a link, or no folder');
  if (stats.uid !== ourUid()) throw unsafe(path, `belongs to user ${stats.uid}`);
  if ((stats.mode & OF_OTHERS) !== 0) throw unsafe(path, `is open to others (${modeOf(stats)})`);
}

/**
 * Makes a folder, unless it is there; other users may be able to read one that is.
 * @throws as `makeOwnFolder` does
 */
export function makeTrustedFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  requireTrustedFolder(path);
}

/**
 * Checks that a folder can be trusted.
 * @throws ShadowError E_FOLDER_UNSAFE; errors of the system
 */
export function requireTrustedFolder(path: string): void {
  for (const stats of [lstatSync(path), statSync(path)]) {
    const isTrusted = stats.uid === ourUid() || stats.uid === 0;
    if (!isTrusted) throw unsafe(path, `belongs to user ${stats.uid}`);
    if (stats.isSymbolicLink()) continue; // its mode means nothing
    if (!stats.isDirectory()) throw unsafe(path, 'is no folder');
    const isOpen = (stats.mode & WRITABLE_BY_OTHERS) !== 0;
    if (isOpen) throw unsafe(path, `can be written to by others (${modeOf(stats)})`);
  }
}

function ourUid(): number {
  return process.geteuid?.() ?? 0;
}

function modeOf({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

function unsafe(path: string, why: string): ShadowError {
  return new ShadowError('E_FOLDER_UNSAFE', `${path} ${why}`, { path });
}
