/** Constants of Linux that several rooms need. PURE. */

/** Bytes of a page of memory: of the host, and of every guest that Umbra supports (x86-64). */
export const PAGE_BYTES = 4096;

/** Bytes of the longest path of a unix socket: sun_path without its NUL (unix(7)). */
export const SOCKET_PATH_BYTES_MAX = 107;

/** Bytes in the unit of st_blocks, on every file system (stat(2)). */
export const BLOCK_BYTES = 512;
