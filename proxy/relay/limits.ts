/** Limits of a migration's memory in the relay, its shadow apart, and of a route's connections. */

/** Most bytes read and not yet taken by the other side, for each direction of a connection. */
export const IN_FLIGHT_BYTES = 4 * 2 ** 20;
/**
 * Most connections at once: 255 multifd channels of a migration, its main one, preempt's, and some.
 * More are closed.
 */
export const CONNECTIONS_MAX = 300;
