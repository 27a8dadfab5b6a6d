/**
 * Which capture a member gets: the first of those it may have that nothing stands in the way of. Found
 * out by trying, and told: one that was preferred is never passed over in silence.
 */
import type { QmpClient } from '../../qmp/index.ts';
import { type Failure, UmbraError } from '../failure.ts';
import { backgroundObstacles } from './background-support.ts';
import type { CaptureMode, PrepareCommand } from './messages.ts';
import { precopyObstacle } from './qemu.ts';

export interface Choice {
  readonly mode: CaptureMode;
  /** Why it is not what was preferred, in words. */
  readonly reason: string | undefined;
}

/** @throws UmbraError E_CAPTURE_UNSAFE, E_BACKGROUND_UNSUPPORTED, E_BACKGROUND_DISKS */
export async function chooseCapture(
  qmp: QmpClient,
  { capture, vm }: Pick<PrepareCommand, 'capture' | 'vm'>,
): Promise<Choice> {
  const refusals: Failure[] = [];
  for (const mode of capture) {
    const refusal = await refusalOf(mode, qmp, vm);
    if (refusal === undefined) return { mode, reason: inWords(refusals) };
    refusals.push(refusal);
  }
  const [first] = refusals;
  if (first === undefined) throw new Error('no capture to choose from');
  throw new UmbraError({ code: first.code, message: inWords(refusals) ?? '' });
}

function inWords(refusals: readonly Failure[]): string | undefined {
  return refusals.length === 0 ? undefined : refusals.map(({ message }) => message).join('; ');
}

async function refusalOf(
  mode: CaptureMode,
  qmp: QmpClient,
  vm: PrepareCommand['vm'],
): Promise<Failure | undefined> {
  if (mode === 'stop-copy') return undefined;
  if (mode === 'precopy') {
    const message = await precopyObstacle(qmp);
    return message === undefined ? undefined : { code: 'E_CAPTURE_UNSAFE', message };
  }
  const [first, ...more] = await backgroundObstacles(qmp, vm);
  if (first === undefined) return undefined;
  const words = [first, ...more].map(({ message }) => message).join('; ');
  return { code: first.code, message: `no background snapshot: ${words}` };
}
