/**
 * The list of epochs on disk, as the coordinator knows it: what it has to say about the next step.
 * The list itself comes from the agent, with every answer (proxy/protocol/agent.ts). PURE.
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import type { DurableList } from '../../protocol/agent.ts';

/** The list before the disk has answered for the first time. */
export const NOTHING: DurableList = {
  epochs: [],
  damaged: [],
  pinned: [],
  nextEpoch: 1,
  doubt: undefined,
};

/** Returns what an epoch and its copy have in common; their rounds differ once one is folded. */
export function identityOf({ epoch, createdAt }: EpochManifest): string {
  return `${epoch} ${createdAt}`;
}

/**
 * Chooses the next epoch to bring to disk: the newest that is only in memory, because it is worth
 * the most. Epochs older than those that are kept on disk are not wanted.
 * @param inMemory oldest first
 * @param keep how many epochs are kept on disk
 * @param hopeless identities of epochs that cannot be brought there
 */
export function nextWanted(
  list: DurableList,
  inMemory: readonly EpochManifest[],
  keep: number,
  hopeless: ReadonlyMap<string, unknown>,
): EpochManifest | undefined {
  const there = new Set(list.epochs.map(identityOf));
  const oldest = list.epochs.at(-keep)?.epoch ?? 0;
  return inMemory
    .slice(-keep)
    .findLast(
      (one) => one.epoch > oldest && !there.has(identityOf(one)) && !hopeless.has(identityOf(one)),
    );
}

/** Returns listed epochs that are pinned in memory alone: a pin has to outlive the memory. */
export function pinsToCarryOver(list: DurableList, pinnedInMemory: readonly number[]): number[] {
  return list.epochs
    .map(({ epoch }) => epoch)
    .filter((epoch) => pinnedInMemory.includes(epoch) && !list.pinned.includes(epoch));
}

/** Returns epochs beyond the newest `keep` that nothing pins. */
export function tooOld(
  list: DurableList,
  keep: number,
  pinnedInMemory: readonly number[],
): number[] {
  const pins = new Set([...pinnedInMemory, ...list.pinned]);
  return list.epochs
    .slice(0, -keep)
    .map(({ epoch }) => epoch)
    .filter((epoch) => !pins.has(epoch));
}

/** Tells whether an epoch of this number is on disk, whole or damaged. */
export function isListed(list: DurableList, epoch: number): boolean {
  return [...list.epochs, ...list.damaged].some((one) => one.epoch === epoch);
}

/** Returns the list without epochs that are being retired: they must not be offered meanwhile. */
export function without(list: DurableList, going: readonly number[]): DurableList {
  const stays = ({ epoch }: { readonly epoch: number }) => !going.includes(epoch);
  return { ...list, epochs: list.epochs.filter(stays), damaged: list.damaged.filter(stays) };
}
