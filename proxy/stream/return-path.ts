/**
 * The return path: what the destination sends back on the same socket.
 *
 *   be16 type | be16 length | payload            (migration/migration.c, source_return_path_thread)
 *
 * SHUT is the vote: 0 commits (the source becomes postmigrate), anything else makes the source
 * fail the migration and resume its VM.
 */
const MIG_RP_MSG_SHUT = 1;
const MIG_RP_MSG_PONG = 2;
const MIG_RP_MSG_SWITCHOVER_ACK = 7;

/** @param status 0 = loaded, commit; another u32 = failed, the source resumes */
export function shut(status: number): Buffer {
  return message(MIG_RP_MSG_SHUT, status);
}

/** @param value the u32 of the PING this answers */
export function pong(value: number): Buffer {
  return message(MIG_RP_MSG_PONG, value);
}

/** Lets a source with the capability switchover-ack (8.1+) end its live phase. */
export function switchoverAck(): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(MIG_RP_MSG_SWITCHOVER_ACK, 0);
  return bytes;
}

function message(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16BE(type, 0);
  bytes.writeUInt16BE(4, 2);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}
