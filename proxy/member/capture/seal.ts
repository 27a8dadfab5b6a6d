/** Seals a member's shadow: the stream is whole, the VM runs, the shadow is made final. */
import type { QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { buildIdOf } from '../../host/build-id.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
import type { StreamIntake } from '../../intake/stream-intake.ts';
import { restoreMigration } from '../qemu/migration-settings.ts';
import type { CaptureMethod } from './method.ts';
import type { MemberRound, SealedFacts } from './stages.ts';

/** @throws UmbraError E_ACCOUNTING; QmpError; ShadowError */
export async function sealShadow(
  round: MemberRound,
  method: CaptureMethod,
  result: StreamResult,
): Promise<SealedFacts> {
  const sealingAt = performance.now();
  const { intake } = method;
  const { monitor, saved, shadow, qemuVersion, machine } = method.ready;
  const { commandLine, workingDirectory, domainXml, vm } = round.prepare;
  const qemuBuildId = vm && buildIdOf(`/proc/${vm.pid}/exe`);
  await method.complete();
  await requireAccounting(monitor, intake);
  const { name = '' } = await monitor.execute('query-name');
  const { UUID: uuid } = await monitor.execute('query-uuid');
  const drainBytes = intake.readBytes - method.liveBytes;
  round.throwIfOver();
  intake.close();
  await restoreMigration(monitor, saved);
  round.throwIfOver();
  round.journal.remove();
  const { sha256, storedBytes } = await shadow.seal({
    ...result,
    identity: {
      machineType: intake.sink.machineType,
      qemuVersion,
      ...(qemuBuildId && { qemuBuildId }),
      uuid,
      name,
      commandLine: [...commandLine],
      workingDirectory,
      machine,
      ...(domainXml && { domainXml }),
    },
  });
  return { shadow: sha256, storedBytes, drainBytes, sealMs: performance.now() - sealingAt };
}

/**
 * Requires that the pages that arrived are the pages that QEMU says it sent. XBZRLE pages are left
 * out: QEMU also counts those it looked at and found unchanged.
 */
async function requireAccounting(qmp: QmpClient, { counters }: StreamIntake): Promise<void> {
  const { ram } = await qmp.execute('query-migrate');
  if (ram === undefined) return;
  const { normalPages, zeroPages } = counters;
  if (ram.normal === normalPages && ram.duplicate === zeroPages) return;
  throw new UmbraError({
    code: 'E_ACCOUNTING',
    message:
      `QEMU sent ${ram.normal} normal and ${ram.duplicate} zero pages, ` +
      `but ${normalPages} and ${zeroPages} arrived`,
  });
}
