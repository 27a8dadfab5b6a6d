/** Seals a member's shadow: the stream is whole, the VM runs, the shadow is made final. */
import { buildIdOf } from '../../host/build-id.ts';
import type { StreamResult } from '../../intake/shadow-sink.ts';
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
  const { monitor, saved, shadow, qemuVersion, machine } = method.ready;
  const { commandLine, workingDirectory, domainXml, vm } = round.prepare;
  const qemuBuildId = vm && buildIdOf(`/proc/${vm.pid}/exe`);
  await method.complete();
  await method.requireAccounting();
  const identity = await method.identify();
  const drainBytes = method.readBytes - method.liveBytes;
  round.throwIfOver();
  method.close();
  if (method.mode !== 'tracked') await restoreMigration(monitor, saved);
  round.throwIfOver();
  round.journal.remove();
  const { sha256, storedBytes } = await shadow.seal({
    ...result,
    identity: {
      ...identity,
      qemuVersion,
      ...(qemuBuildId && { qemuBuildId }),
      commandLine: [...commandLine],
      workingDirectory,
      machine,
      ...(domainXml && { domainXml }),
    },
  });
  method.sealed();
  return { shadow: sha256, storedBytes, drainBytes, sealMs: performance.now() - sealingAt };
}
