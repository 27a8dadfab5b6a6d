/** A guest agent that can be asked, whatever carries the questions. */
import { fault, quoted, type Reply } from './replies.ts';

export interface GuestAgent {
  /**
   * Asks one question; the next only when it is answered.
   * @param question a line of JSON
   * @throws UmbraError E_GUEST_AGENT: there is no answer in time, or one that makes no sense
   */
  ask(question: string): Promise<Reply>;
  close(): void;
}

/** Writes a question (qga/qapi-schema.json). @param values of its arguments, as JSON */
export function question(
  command: 'guest-sync-delimited' | 'guest-get-time' | 'guest-set-time',
  values?: Readonly<Record<string, number | bigint>>,
): string {
  const fields = Object.entries(values ?? {}).map(([name, value]) => `"${name}":${value}`);
  return `{"execute":"${command}","arguments":{${fields.join(',')}}}`;
}

/**
 * Asks for the guest's clock, nanoseconds since 1970.
 * @throws UmbraError E_GUEST_AGENT
 */
export async function guestTimeNs(agent: GuestAgent): Promise<number> {
  const reply = await agent.ask(question('guest-get-time'));
  if (reply.kind === 'error') throw fault(`refuses guest-get-time: ${reply.words}`);
  const { value } = reply;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw fault(`gives the time as ${quoted(JSON.stringify(value) ?? 'nothing')}`);
}
