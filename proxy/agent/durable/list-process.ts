/**
 * The keeper of the list of epochs on disk (disk-keeper.ts), as a process of its own: whoever asks a disk
 * that hangs for something sleeps until it goes on, and cannot even be killed. That must not be the daemon,
 * nor a thread of it: it could neither go on nor end. It lives as long as its parent.
 */
import { toFailure } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { FromListKeeper, ToListKeeper } from '../../protocol/durable.ts';
import { DurableListKeeper } from './list.ts';

let keeper: DurableListKeeper | undefined;

function send(message: FromListKeeper): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

process.on('disconnect', () => process.exit(1));
process.on('message', ({ place: location, request }: ToListKeeper) => {
  keeper ??= new DurableListKeeper(location, (step) => faultPoint(`persist/${step}`));
  keeper.answer(request).then(
    (view) => send({ kind: 'view', view }),
    (error: unknown) => send({ kind: 'failed', failure: toFailure(error, { where: 'disk' }) }),
  );
});
