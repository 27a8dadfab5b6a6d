/** What a migration may have in memory here, besides its shadow. */

/** Read ahead and not yet taken by the other side, at most: each way, and a connection. */
export const IN_FLIGHT_BYTES = 4 * 2 ** 20;
/** Put by for a shadow that is not begun yet; the migration is stopped beyond. */
export const BACKLOG_BYTES = 16 * 2 ** 20;
