/**
 * Paths of files and sockets in a clone's folder, in place of those the first VM uses. PURE.
 *
 *     /srv/console.log      ─▶  FOLDER/console.log
 *     /other/console.log    ─▶  FOLDER/2-console.log     another file of the same name
 *     /srv/console.log      ─▶  FOLDER/console.log       the same file again
 */
import { posix } from 'node:path';
import { MEMBER_FILES } from '../host/folders.ts';
import { SOCKET_PATH_BYTES_MAX } from '../host/linux.ts';
import { refused } from './clone-refusals.ts';

/**
 * Names in a member's folder that Umbra itself uses. The monitor is not among them: that one is for
 * domains of libvirt, and no clone is one.
 */
const { monitor: _monitorOfDomains, ...OWN_FILES } = MEMBER_FILES;

/** The paths of one clone. */
export class ClonedPaths {
  /** Absolute paths of the first VM, each with the clone's. */
  readonly cloned = new Map<string, string>();
  readonly #workingDirectory: string;
  readonly #directory: string;
  readonly #taken = new Set<string>(Object.values(OWN_FILES));

  /**
   * @param workingDirectory the folder that relative paths in the command line begin in
   * @param directory the member's folder in the clone
   */
  constructor(workingDirectory: string, directory: string) {
    this.#workingDirectory = workingDirectory;
    this.#directory = directory;
  }

  /**
   * Maps a path of the first VM into the clone's folder. The same path always gets the same name.
   */
  file(path: string): string {
    const before = this.absolute(path);
    const known = this.cloned.get(before);
    if (known !== undefined) return known;
    const base = posix.basename(before);
    let name = base;
    for (let count = 2; this.#taken.has(name); count++) name = `${count}-${base}`;
    this.#taken.add(name);
    const after = posix.join(this.#directory, name);
    this.cloned.set(before, after);
    return after;
  }

  /**
   * Maps the path of a unix socket into the clone's folder.
   * @param option the option it is in, without its dash
   * @throws UmbraError E_CLONE_COMMAND if the path is too long for a socket
   */
  socket(option: string, path: string): string {
    const socket = this.file(path);
    const bytes = Buffer.byteLength(socket);
    if (bytes <= SOCKET_PATH_BYTES_MAX) return socket;
    const limit = `${bytes} bytes are too long for a unix socket (${SOCKET_PATH_BYTES_MAX})`;
    const hint = 'Choose a shorter name for the clone.';
    throw refused('E_CLONE_COMMAND', `-${option}`, `${limit}: ${socket}`, hint);
  }

  /** Returns a path of the first VM as an absolute one, without `.` and `..`. */
  absolute(path: string): string {
    if (posix.isAbsolute(path)) return posix.normalize(path);
    return posix.join(this.#workingDirectory, path);
  }
}
