/**
 * Folders that hold guests' memory, or sockets that lead to it. Their place may be known to everyone
 * (/dev/shm/umbra-1000), and there before us: whoever made it could read, or replace, what we put there. So one
 * is used only if
 *
 *     own       it is a folder and no link, ours, and nobody else may enter         0700
 *     trusted   it is ours or root's, and nobody else may write to it               0755, say
 *
 * A link that leads to one is trusted as its owner is. Folders above are not looked at: /dev/shm and /tmp let
 * nobody rename what is ours (sticky).
 */
import { lstatSync, mkdirSync, type Stats, statSync } from 'node:fs';
import { ShadowError } from './errors.ts';

const OF_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/** Makes it, unless it is there. @throws ShadowError E_FOLDER_UNSAFE, and what the system says */
export function makeOwnFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stats = lstatSync(path);
  if (!stats.isDirectory()) throw unsafe(path, 'is a link, or no folder');
  if (stats.uid !== ourUid()) throw unsafe(path, `belongs to user ${stats.uid}`);
  if ((stats.mode & OF_OTHERS) !== 0) throw unsafe(path, `is open to others (${modeOf(stats)})`);
}

/** Makes it, unless it is there; then others may look into it. @throws as `makeOwnFolder` does */
export function makeTrustedFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  requireTrustedFolder(path);
}

/** @throws ShadowError E_FOLDER_UNSAFE, and what the system says */
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
