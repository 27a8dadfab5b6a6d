/**
 * A hold on an epoch of another cluster, by way of its daemon, while a clone is made of it: the
 * epoch is neither retired nor removed, so its files stay where they are.
 *
 * The hold is the connection: it ends when either of the two processes does.
 */
import { UmbraError } from '../failure/failure.ts';
import { DaemonClient } from './daemon-client.ts';

/** Codes of a daemon that does not run, or does not answer. */
const UNANSWERED: ReadonlySet<string> = new Set([
  'E_DAEMON_DOWN',
  'E_DAEMON_LOST',
  'E_DAEMON_SILENT',
]);

export interface EpochHold {
  readonly epoch: number;
  /**
   * Asks whether the hold has lasted until now.
   * @throws UmbraError E_CLONE_SOURCE: it has not; the files may be gone, or another round's
   */
  require(): Promise<void>;
  release(): Promise<void>;
}

/** A cluster whose daemon is asked. */
export interface HeldCluster {
  readonly cluster: string;
  readonly directory: string;
}

/** Limit for an answer of the other daemon: removing an epoch from a slow disk may come first. */
const ANSWER_LIMIT_MS = 300_000;

/**
 * Takes a hold.
 * @param epoch the newest if undefined
 * @param answerLimitMs limit for each answer of the other daemon, milliseconds
 * @throws UmbraError the other daemon's failure, or E_CLONE_SOURCE if it does not answer
 */
export async function holdEpoch(
  { cluster, directory }: HeldCluster,
  epoch: number | undefined,
  answerLimitMs = ANSWER_LIMIT_MS,
): Promise<EpochHold> {
  let client: DaemonClient | undefined;
  try {
    client = new DaemonClient(cluster, directory, { answerLimitMs });
    const daemon = client;
    const held = await daemon.hold({ body: { epoch } });
    const params = { hold: held.hold };
    return {
      epoch: held.epoch,
      require: async () => {
        await daemon.ask('requireHold', { params }).catch((cause: unknown) => {
          throw lostHold(cause);
        });
      },
      release: () => daemon.close(),
    };
  } catch (error) {
    await client?.close();
    throw isAnswer(error) ? error : lostHold(error);
  }
}

/** Says whether the other daemon has answered, with a failure of its own. */
function isAnswer(error: unknown): boolean {
  return error instanceof UmbraError && !UNANSWERED.has(error.code);
}

function lostHold(cause: unknown): UmbraError {
  const message = 'the daemon of the cluster to clone is gone, or ends';
  const hint = 'Start it again, then try again: umbra up --cluster SOURCE';
  return new UmbraError({ code: 'E_CLONE_SOURCE', message, hint }, cause);
}
