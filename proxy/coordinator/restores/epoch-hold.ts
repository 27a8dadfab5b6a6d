/**
 * Holds on to an epoch of another cluster, by way of its daemon, while a clone is made of it: the epoch is
 * neither retired nor removed, so its files stay where they are. The hold is the connection: it goes with
 * whichever of the two processes ends.
 */
import { Pool } from 'undici';
import * as z from 'zod';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import { apiSocket } from '../../host/private-socket.ts';

const LINE_LIMIT_BYTES = 64 * 1024;
const heldSchema = z.object({
  kind: z.literal('held'),
  hold: z.string().regex(/^[0-9a-f]{1,64}$/),
  epoch: z.number().int().positive(),
});
const failureSchema = z.looseObject({ failure: z.looseObject({ code: z.string() }) });

export interface EpochHold {
  readonly epoch: number;
  /** @throws UmbraError E_CLONE_SOURCE when it is lost: the files may be gone, or another's, by now */
  require(): Promise<void>;
  release(): Promise<void>;
}

/**
 * @param sourceDirectory the other cluster's folder
 * @param epoch the newest if undefined
 * @throws UmbraError what the other daemon says, or E_CLONE_SOURCE when it does not answer
 */
export async function holdEpoch(
  sourceDirectory: string,
  epoch: number | undefined,
): Promise<EpochHold> {
  const socketPath = apiSocket(sourceDirectory);
  // One connection is the hold, the other asks for it.
  const daemon = new Pool('http://umbra', {
    connect: { socketPath },
    connections: 2,
    bodyTimeout: 0,
  });
  try {
    const { body } = await daemon.request({
      method: 'POST',
      path: '/v1/hold',
      body: JSON.stringify(epoch === undefined ? {} : { epoch }),
      headers: { 'content-type': 'application/json' },
    });
    body.on('error', () => {}); // whether it stands is asked, not overheard
    const held = await firstLine(body.setEncoding('utf8'));
    return {
      epoch: held.epoch,
      require: async () => {
        try {
          const path = `/v1/hold/${held.hold}`;
          const { statusCode, body: answer } = await daemon.request({ method: 'GET', path });
          await answer.dump();
          if (statusCode !== 200) throw new Error(`status ${statusCode}`);
        } catch (cause) {
          throw lostHold(cause);
        }
      },
      release: () => daemon.destroy(),
    };
  } catch (error) {
    await daemon.destroy();
    throw error instanceof UmbraError ? error : lostHold(error);
  }
}

async function firstLine(body: AsyncIterable<string>): Promise<z.infer<typeof heldSchema>> {
  const lines = body[Symbol.asyncIterator]();
  let text = '';
  while (!text.includes('\n') && text.length < LINE_LIMIT_BYTES) {
    const { value, done } = await lines.next();
    if (done === true) break;
    text += value;
  }
  const answer: unknown = JSON.parse(text);
  const failed = failureSchema.safeParse(answer);
  if (failed.success) throw new UmbraError(failed.data.failure as unknown as Failure);
  return heldSchema.parse(answer);
}

function lostHold(cause: unknown): UmbraError {
  const message = 'the daemon of the cluster to clone is gone, or ends';
  const hint = 'Start it again, then try again: umbra up --cluster SOURCE';
  return new UmbraError({ code: 'E_CLONE_SOURCE', message, hint }, cause);
}
