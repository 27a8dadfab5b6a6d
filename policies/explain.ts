/** What every policy option means, for the documentation and for `umbra explain`. */

export interface OptionHelp {
  /** As it is written in cluster.yaml. */
  readonly option: string;
  readonly unit: string;
  readonly default: string;
  readonly effect: string;
}

export const POLICIES: Readonly<Record<string, readonly OptionHelp[]>> = {
  'end-condition': [
    {
      option: 'round.endWhen',
      unit: 'list of conditions; the first that holds ends the live phase of every member',
      default: '[all-first-pass]',
      effect: 'decides how much is left to send while the VMs stand: the later, the less',
    },
    {
      option: 'all-first-pass',
      unit: '–',
      default: 'in the list',
      effect: 'ends when every member has sent all its memory once; the shortest checkpoint',
    },
    {
      option: 'any-first-pass',
      unit: '–',
      default: 'not in the list',
      effect: 'ends when the first member has; the others send the rest while they stand',
    },
    {
      option: 'predicted-downtime T',
      unit: 'duration',
      default: 'not in the list',
      effect: 'ends when remaining ÷ bandwidth is at most T for the slowest member',
    },
    {
      option: 'no-progress',
      unit: '–',
      default: 'not in the list',
      effect: 'ends when a member dirties memory as fast as it streams: waiting buys nothing',
    },
    {
      option: 'round.memoryBound',
      unit: 'multiple of a member’s RAM, at least 1',
      default: '2',
      effect: 'ends when a member has streamed that much while it ran: the live phase always ends',
    },
    {
      option: 'round.maxLive',
      unit: 'duration',
      default: '60s',
      effect: 'ends the live phase by then, whatever the rest says',
    },
  ],
};
