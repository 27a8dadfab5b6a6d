/** The matrix: where a process stands, and what happens to whom while it does. */
import { STATE_NAMES } from '../../proxy/member/session.ts';
import type { StoreStep } from '../../shadow/index.ts';

export type Victim =
  /** The process that stands at the place. */
  | 'it is killed'
  /** It stays frozen, until the command has ended. */
  | 'it is frozen'
  | 'QEMU is killed'
  /** Another process than the one that stands there. */
  | 'the daemon is killed'
  | 'all of ours are killed';

export interface ChaosRow {
  readonly name: string;
  /** What is under way. */
  readonly during: 'checkpoint' | 'restore' | 'fold';
  readonly capture: 'precopy' | 'background';
  /** A name of proxy/fault-point.ts. */
  readonly place: string;
  readonly victim: Victim;
}

/** States in which the coordinator is about to do something. */
const ROUND_STATES = [
  'admitting',
  'opening',
  'live',
  'stopping',
  'draining',
  'committing',
  'committed',
];
/** Those the daemon takes by itself; the catalogue's are walked by shadow/power-cut.test.ts. */
const FOLD_STEPS: readonly StoreStep[] = ['fold/staged', 'fold/copied', 'fold/sealed'];
const PASSIVE = new Set(['idle', 'undoing']);

/** All of it, in the order in which it is run. */
export function allRows(): ChaosRow[] {
  return [
    ...(['precopy', 'background'] as const).flatMap((capture) => [
      ...ROUND_STATES.flatMap((state) => rowsAt(`round/${state}`, capture, 'checkpoint', [])),
      ...STATE_NAMES.filter((state) => !PASSIVE.has(state))
        // A precopy is whole when it resumes: there is nothing left to save.
        .filter((state) => capture === 'background' || state !== 'saving')
        .flatMap((state) =>
          rowsAt(`member/n0/${state}`, capture, 'checkpoint', ['the daemon is killed']),
        ),
    ]),
    ...rowsAt('restore/loaded', 'precopy', 'restore', []),
    ...FOLD_STEPS.flatMap((step) =>
      rowsAt(`store/${step}`, 'precopy', 'fold', []).filter(
        ({ victim }) => victim === 'it is killed',
      ),
    ),
  ];
}

function rowsAt(
  place: string,
  capture: ChaosRow['capture'],
  during: ChaosRow['during'],
  more: readonly Victim[],
): ChaosRow[] {
  const victims: Victim[] = ['it is killed', 'it is frozen', 'QEMU is killed', ...more];
  if (during === 'checkpoint') victims.push('all of ours are killed');
  return victims.map((victim) => {
    return { name: `${during} (${capture}), ${place}: ${victim}`, during, capture, place, victim };
  });
}
