/** Epochs that a relay keeps, as other rooms know them. PURE. */

/** The cluster that a relay's epochs name: each is of one VM. */
export const RELAY_CLUSTER = 'relay';

/** Settings of a relay's store. */
export interface RelayShadows {
  readonly directory: string;
  /** Memory for all of it; undefined: the host's, less the headroom. */
  readonly budgetBytes: number | undefined;
  readonly headroomBytes: number;
  /** Number of epochs that stay of each VM, the newest. */
  readonly keep: number;
  /** Most bytes of a migration that are kept aside until its shadow begins. */
  readonly inFlightBytes: number;
}
