/**
 * The keeper of the list of epochs on disk (list.ts), as a process of its own.
 *
 * A process blocked on a hung disk sleeps until the disk answers, and cannot be killed. That must
 * not be the daemon, nor a thread of it: it could neither work nor end. This one lives as long as
 * its parent.
 */
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { parentChannel } from '../../host/child.ts';
import { LIST_CALLS } from '../../protocol/durable.ts';
import { DurableListKeeper } from './list.ts';

let keeper: DurableListKeeper | undefined;

process.on('disconnect', () => process.exit(1));
parentChannel({
  remote: {},
  local: LIST_CALLS,
  handlers: {
    ask: async ({ location, request }) => {
      keeper ??= new DurableListKeeper(location, (step) => faultPoint(`persist/${step}`));
      try {
        return await keeper.answer(request);
      } catch (error) {
        throw UmbraError.received(toFailure(error, { where: 'disk' }), error);
      }
    },
  },
  onMisfit: () => process.exit(1),
});
