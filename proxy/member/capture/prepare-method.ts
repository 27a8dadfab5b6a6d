/** Sets QEMU's migration up, and makes the capture ready that a member was admitted with. */
import { applyMigration, planMigration } from '../qemu/migration-settings.ts';
import { BackgroundCapture } from './background.ts';
import type { CaptureMethod } from './method.ts';
import { PrecopyCapture } from './precopy.ts';
import type { Admitted, MemberRound } from './stages.ts';
import { StopCopyCapture } from './stop-copy.ts';
import { TrackedCapture } from './tracked.ts';

/**
 * Prepares a capture. The journal is written first, so that QEMU's settings can be put back.
 * @throws UmbraError, QmpError
 */
export async function prepareMethod(
  round: MemberRound,
  admitted: Admitted,
): Promise<CaptureMethod> {
  const { monitor, mode } = admitted;
  if (mode === 'tracked') return prepareTracked(round, admitted);
  const plan = await planMigration(monitor, mode === 'background');
  round.throwIfOver();
  const { capabilities, parameters } = plan.saved;
  const saved = { capabilities: [...capabilities], parameters: { ...parameters } };
  round.journal.write({ round: round.prepare.round, stopping: false, saved });
  await applyMigration(monitor, plan);
  round.throwIfOver();
  const ready = { ...admitted, saved };
  switch (mode) {
    case 'precopy':
      return PrecopyCapture.prepare(round, ready, plan.canTrickle);
    case 'stop-copy':
      return new StopCopyCapture(round, ready);
    case 'background':
      return new BackgroundCapture(round, ready);
  }
}

/** Prepares a tracked capture: QEMU's migration is not touched. */
async function prepareTracked(round: MemberRound, admitted: Admitted): Promise<CaptureMethod> {
  const { tracking, parent } = admitted;
  if (tracking === undefined || parent === undefined) throw new Error('the VM is not tracked');
  const saved = { capabilities: [], parameters: {} };
  round.journal.write({ round: round.prepare.round, stopping: false, migrates: false, saved });
  return TrackedCapture.prepare(round, { ...admitted, saved }, tracking, parent);
}
