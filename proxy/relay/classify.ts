/**
 * What a connection carries, by its first bytes (migration/channel.c does the same). PURE.
 *
 *     51 45 56 4d   "QEVM"       main channel: device state, and memory unless multifd carries it
 *     11 22 33 44                multifd channel: memory
 *     16 03 ..                   TLS: nobody here can tell what is inside
 *     anything else              postcopy-preempt, say, which has no mark
 */
import { MULTIFD_MAGIC, QEMU_VM_FILE_MAGIC } from '../stream/wire.ts';

export type ChannelKind = 'main' | 'multifd' | 'tls' | 'other';

/** Bytes that are enough to tell. */
export const MARK_BYTES = 4;

/** Content type 22 of a record of TLS, version 3.x. */
const TLS_HANDSHAKE = 0x1603;

/** @param bytes the first of the connection; undefined while there are too few to tell */
export function classify(bytes: Buffer): ChannelKind | undefined {
  if (bytes.length < MARK_BYTES) return undefined;
  const mark = bytes.readUInt32BE(0);
  if (mark === QEMU_VM_FILE_MAGIC) return 'main';
  if (mark === MULTIFD_MAGIC) return 'multifd';
  return mark >>> 16 === TLS_HANDSHAKE ? 'tls' : 'other';
}
