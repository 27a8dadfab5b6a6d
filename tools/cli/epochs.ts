/** `umbra epochs`, `verify`, `pin` and `rm`. */
import { withDaemon } from './daemon.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon } from './processes.ts';
import { epochDetailsText } from './reports.ts';

/** Lists the epochs, with age and memory. */
export async function epochs(cluster: string, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (daemon) => daemon.ask('epochs', {}));
  output.result(answer, epochDetailsText(answer.epochs));
}

/** Reads every byte of an epoch again. @throws UmbraError E_EPOCH_CORRUPT */
export async function verifyEpoch(cluster: string, epoch: number, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (daemon) => daemon.ask('verify', { params: { epoch } }));
  const where = answer.places
    .join(' and on ')
    .replace(/^/, answer.places[0] === 'memory' ? 'in ' : 'on ');
  output.result(answer, `epoch ${epoch} is whole ${where}: every byte matches its digest`);
}

/** Pins an epoch, or unpins it. */
export async function pinEpoch(
  cluster: string,
  epoch: number,
  pinned: boolean,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (daemon) =>
    daemon.ask(pinned ? 'pin' : 'unpin', { params: { epoch } }),
  );
  const kept = pinned ? 'is pinned: it stays until' : 'is no longer pinned; pin it again:';
  output.result(answer, `epoch ${epoch} ${kept} umbra pin ${epoch}${pinned ? ' --off' : ''}`);
}

/** Removes an epoch. */
export async function removeEpoch(cluster: string, epoch: number, output: Output): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const answer = await withDaemon(config, (daemon) =>
    daemon.ask('removeEpoch', { params: { epoch } }),
  );
  output.result(answer, `epoch ${epoch} is gone`);
}
