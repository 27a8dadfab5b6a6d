/** Reads every byte of an epoch again, in memory and on disk, wherever it is. */
import type { Catalogue } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { Agent } from '../../protocol/agent.ts';
import type { Persister } from '../durable/persister.ts';
import type { Epochs } from './epochs.ts';

export interface VerifyingParts {
  readonly agent: Agent;
  readonly catalogue: Catalogue;
  readonly epochs: Epochs;
  /** Undefined without a durable tier. */
  readonly persister: Persister | undefined;
}

/**
 * Verifies an epoch.
 * @returns where it was found, whole
 * @throws UmbraError E_EPOCH_CORRUPT, E_EPOCH_UNKNOWN
 */
export async function verifyEpoch(
  epoch: number,
  { agent, catalogue, epochs, persister }: VerifyingParts,
): Promise<('memory' | 'disk')[]> {
  const durable = persister?.find(epoch);
  const inMemory = await epochs.isInMemory(epoch);
  if (!inMemory && durable === undefined) await catalogue.read(epoch); // says which there are
  if (inMemory) await epochs.verify(epoch, 'all');
  if (durable === undefined) return inMemory ? ['memory'] : [];
  await agent.verifyDurable(durable).catch((error: unknown) => {
    if (persister?.find(epoch) === undefined) return; // it has been retired meanwhile
    const failure = toFailure(error, { where: 'verify on disk' });
    const hint = inMemory ? 'Its copy in memory is whole.' : undefined;
    throw UmbraError.received({ ...failure, ...(hint !== undefined && { hint }) }, error);
  });
  return inMemory ? ['memory', 'disk'] : ['disk'];
}
