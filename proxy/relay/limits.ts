/** What a migration may have in memory here, besides its shadow; and how many connections a route takes. */

/** Read ahead and not yet taken by the other side, at most: each way, and a connection. */
export const IN_FLIGHT_BYTES = 4 * 2 ** 20;
/** Put by for a shadow that is not begun yet; the migration is stopped beyond. */
export const BACKLOG_BYTES = 16 * 2 ** 20;
/** At once: a migration of 255 multifd channels, its main one and preempt's; beyond, they are hung up on. */
export const CONNECTIONS_MAX = 300;
