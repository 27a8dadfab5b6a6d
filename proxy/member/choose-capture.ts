/** Which capture a member gets, and why not another. */
import type { QmpClient } from '../../qmp/index.ts';
import { UmbraError } from '../failure.ts';
import { backgroundObstacles } from './background-support.ts';
import type { CaptureMode, PrepareCommand } from './messages.ts';
import { precopyObstacle } from './qemu.ts';

export interface Choice {
  readonly mode: CaptureMode;
  /** Why it is not what was preferred, in words. */
  readonly reason?: string;
}

/** @throws UmbraError E_CAPTURE_UNSAFE, E_BACKGROUND_UNSUPPORTED when there is no choice */
export async function chooseCapture(
  qmp: QmpClient,
  { capture, vm }: Pick<PrepareCommand, 'capture' | 'vm'>,
): Promise<Choice> {
  if (capture === 'stop-copy') return { mode: capture };
  if (capture === 'background') {
    const obstacles = await backgroundObstacles(qmp, vm);
    if (obstacles.length === 0) return { mode: capture };
    const message = `no background snapshot can be taken: ${obstacles.join('; ')}`;
    throw new UmbraError({ code: 'E_BACKGROUND_UNSUPPORTED', message });
  }
  const reason = await precopyObstacle(qmp);
  if (reason === undefined) return { mode: 'precopy' };
  if (capture === 'auto') return { mode: 'stop-copy', reason };
  throw new UmbraError({ code: 'E_CAPTURE_UNSAFE', message: reason });
}
