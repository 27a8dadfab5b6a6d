/**
 * Proves that an epoch loads: into a throw-away QEMU beside the running VM, paused, without disks
 * and network, which is then ended.
 *
 *     plan ─▶ command line of a proof ─▶ QEMU -S, a proxy ─▶ load ─▶ both are ended, folder removed
 *                 └── none can be made (E_PROOF_IMPOSSIBLE): the member is not proven
 *
 * Its QEMU is recorded in its folder (`proof-…` in the member's) before all else happens to it.
 * If this process dies, its next life ends what is recorded there.
 */
import { statSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { PROOF_MONITOR, proofCommandLine } from '../../command-line/proof-line.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { memberFile } from '../../host/folders.ts';
import { isAlive, killProcess } from '../../host/pid-file.ts';
import type { RestorePlan } from '../../protocol/agent.ts';
import type { RestoreMode } from '../../protocol/member.ts';
import type { MemberProven } from '../../protocol/report.ts';
import { MemberProxy } from '../vms/member-proxy.ts';
import { recordedVm, startVm } from '../vms/vm-process.ts';

const PREFIX = 'proof-';

/**
 * Loads a member's shadow as its plan says. Nothing of its network or disks is touched.
 * @param directory the member's own folder
 * @throws UmbraError E_PROOF_FAILED: the epoch does not load
 */
export async function proveMember(
  plan: RestorePlan,
  directory: string,
  log: Logger,
): Promise<MemberProven> {
  const { member, mode, byStream } = plan;
  const startedAt = performance.now();
  const proven = (how: RestoreMode, reason?: string): MemberProven => {
    return { member, mode: how, proofMs: performance.now() - startedAt, reason };
  };
  try {
    if (plan.domain !== undefined) {
      const message = 'libvirt starts it, and no other may';
      throw new UmbraError({ code: 'E_PROOF_IMPOSSIBLE', message });
    }
    try {
      await load(plan, plan.commandLine, mode, directory, log);
      return proven(mode);
    } catch (error) {
      const { code, message } = toFailure(error, {});
      if (byStream === undefined || code !== 'E_LOAD_FAILED') throw error;
      await load(plan, byStream, 'stream', directory, log);
      return proven('stream', `by map it does not load: ${message}`);
    }
  } catch (error) {
    const { code, message } = toFailure(error, {});
    const isImpossible = code === 'E_PROOF_IMPOSSIBLE' || code === 'E_CLONE_NETWORK';
    if (isImpossible) return { member, notProven: message };
    throw new UmbraError(
      { code: 'E_PROOF_FAILED', message: `its epoch does not load: ${message}`, member },
      error,
    );
  }
}

/** Ends proofs in which an earlier life of this process died, and removes their folders. */
export async function endProofsCutShort(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names.filter((one) => one.startsWith(PREFIX))) {
    const folder = join(directory, name);
    await endProofIn(folder);
  }
}

async function load(
  { member, workingDirectory, shadowDirectory }: RestorePlan,
  commandLine: readonly string[],
  mode: RestoreMode,
  directory: string,
  log: Logger,
): Promise<void> {
  const folder = await mkdtemp(join(directory, PREFIX));
  let proxy: MemberProxy | undefined;
  try {
    const line = proofCommandLine(commandLine, { directory: folder, workingDirectory, bytesOf });
    const incoming = ['-incoming', `unix:${memberFile(folder, 'incoming')}`];
    const location = { member, qmp: join(folder, PROOF_MONITOR), directory: folder };
    const starting = MemberProxy.start(location, log);
    starting.catch(() => {}); // QEMU may fail before it
    const vm = await startVm([...line, ...incoming], workingDirectory, folder);
    proxy = await starting;
    const exited = vm.exited.then((why) => {
      throw new UmbraError({ code: 'E_LOAD_FAILED', message: why });
    });
    exited.catch(() => {});
    const loaded = proxy.request({ type: 'load', shadowDirectory, mode });
    loaded.catch(() => {});
    // The reason why QEMU ended says more than the proxy that lost it.
    await Promise.race([loaded, exited]).catch(async (error: unknown) => {
      if (!isAlive(vm.process)) await exited;
      throw error;
    });
  } finally {
    proxy?.kill();
    await endProofIn(folder);
  }
}

async function endProofIn(folder: string): Promise<void> {
  const vm = recordedVm(folder);
  if (vm !== undefined) await killProcess(vm);
  await rm(folder, { recursive: true, force: true });
}

/** Returns the length of a file without opening it. */
function bytesOf(path: string): number | undefined {
  try {
    const { size } = statSync(path);
    return size > 0 ? size : undefined;
  } catch {
    return undefined;
  }
}
