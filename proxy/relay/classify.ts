/**
 * The kind of a connection, by its first bytes (migration/channel.c does the same). PURE.
 *
 *     51 45 56 4d   "QEVM"       main channel: device state, and memory unless multifd carries it
 *     11 22 33 44                multifd channel: memory
 *     16 03 ..                   TLS: what is inside cannot be read
 *     anything else              postcopy-preempt, for example, which has no mark
 */
import { MULTIFD_MAGIC, QEMU_VM_FILE_MAGIC } from '../stream/wire.ts';

export type ChannelKind = 'main' | 'multifd' | 'tls' | 'other';

/** First bytes that tell the kind. */
export const MARK_BYTES = 4;

/** First bytes of a TLS record with content type 22, version 3.x. */
const TLS_HANDSHAKE = 0x1603;

/** Returns the kind of a connection by its first bytes; undefined while there are too few. */
export function classify(bytes: Buffer): ChannelKind | undefined {
  if (bytes.length < MARK_BYTES) return undefined;
  const mark = bytes.readUInt32BE(0);
  if (mark === QEMU_VM_FILE_MAGIC) return 'main';
  if (mark === MULTIFD_MAGIC) return 'multifd';
  return mark >>> 16 === TLS_HANDSHAKE ? 'tls' : 'other';
}
