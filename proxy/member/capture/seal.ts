/** The last step of a member's round: the stream is whole, the VM runs; its shadow is made final. */
import type { QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import type { StreamIntake } from '../../intake/stream-intake.ts';
import { restoreMigration } from '../qemu/migration-settings.ts';
import type { MemberRound } from './member-round.ts';
import type { CaptureMethod } from './method.ts';

/** @throws UmbraError E_ACCOUNTING, or what the store says */
export async function sealShadow(round: MemberRound, method: CaptureMethod): Promise<void> {
  const sealingAt = performance.now();
  const { monitor, staging, intake, result, prepare, facts } = round;
  if (result === undefined) throw new Error('sealing before the stream was whole');
  await method.complete();
  await requireAccounting(monitor, intake);
  const { name = '' } = await monitor.execute('query-name');
  const { UUID: uuid } = await monitor.execute('query-uuid');
  round.addFacts({ drainBytes: (intake?.readBytes ?? 0) - (facts.liveBytes ?? 0) });
  round.throwIfOver();
  intake?.close();
  if (round.saved !== undefined) await restoreMigration(monitor, round.saved);
  round.throwIfOver();
  round.journal.remove();
  const { sha256, storedBytes } = await staging.seal({
    ...result,
    identity: {
      machineType: intake?.sink.machineType ?? '',
      qemuVersion: facts.qemuVersion ?? '',
      uuid,
      name,
      commandLine: [...prepare.commandLine],
      workingDirectory: prepare.workingDirectory,
      ...(prepare.domainXml && { domainXml: prepare.domainXml }),
    },
  });
  round.addFacts({ shadow: sha256, storedBytes, sealMs: performance.now() - sealingAt });
  round.handle({ type: 'sealed' });
}

/**
 * The pages we took in must be the pages QEMU says it sent. XBZRLE pages are left out: QEMU
 * counts those it looked at and found unchanged, too.
 */
async function requireAccounting(qmp: QmpClient, intake: StreamIntake | undefined): Promise<void> {
  const { ram } = await qmp.execute('query-migrate');
  if (ram === undefined || intake === undefined) return;
  const { normalPages, zeroPages } = intake.counters;
  if (ram.normal === normalPages && ram.duplicate === zeroPages) return;
  throw new UmbraError({
    code: 'E_ACCOUNTING',
    message:
      `QEMU sent ${ram.normal} normal and ${ram.duplicate} zero pages, ` +
      `but ${normalPages} and ${zeroPages} arrived`,
  });
}
