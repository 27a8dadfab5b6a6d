/**
 * Plans the restore of an epoch that is not taken yet, as far as it depends on the VM: what would
 * keep the VM from being started again, or make it another one. An epoch that cannot be restored is
 * refused before anything is touched.
 */
import { existsSync, readFileSync } from 'node:fs';
import { withLayers } from '../../command-line/disks.ts';
import { domainMemory } from '../../command-line/domain-memory.ts';
import { machineChanges } from '../../command-line/machine-changes.ts';
import { withMedia } from '../../command-line/media.ts';
import { neededFiles } from '../../command-line/needed-files.ts';
import { restoreCommandLine } from '../../command-line/restore-line.ts';
import { type Failure, toFailure, UmbraError } from '../../failure/failure.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';
import type { ExamineResult } from '../../protocol/member.ts';
import { saveImageObstacle } from '../vms/libvirt-pair.ts';
import type { VmProcess } from '../vms/vm-process.ts';
import { requireMachine } from './machine-type.ts';
import { fileId, requireOpenFiles } from './open-files.ts';
import { vmOptions } from './vm-options.ts';

/** A member's VM, as its process and its QEMU tell. */
export interface FoundVm {
  readonly member: MemberConfig;
  readonly vm: VmProcess;
  readonly examined: Pick<ExamineResult, 'machine' | 'disks' | 'qemuVersion'>;
}

/**
 * Returns what stands in the way of a restore of this VM. Of a domain only its disks are looked at,
 * and how it could be loaded: libvirt starts it from XML that it is asked for anew each time.
 * Changes nothing.
 */
export async function restoreObstacles(
  { member, vm, examined }: FoundVm,
  disksMode: ClusterConfig['round']['disks'],
): Promise<Failure[]> {
  const { commandLine, workingDirectory } = vm;
  const { machine, disks } = examined;
  const sameFiles = () => requireOpenFiles(vm.pid, disks);
  const { libvirt } = member;
  if (libvirt !== undefined) {
    const loads = () => requireLoadable(libvirt.uri, vm, examined.qemuVersion);
    return failuresOf([sameFiles, loads], member.name);
  }
  const program = commandLine[0] ?? '';
  const { given, fromFiles } = vmOptions(commandLine, workingDirectory);
  let options = [...given, ...fromFiles];
  const checks: readonly (() => unknown)[] = [
    () => requireOneUser(vm),
    sameFiles,
    () => {
      options = [...withMedia(given, machine.media, workingDirectory), ...fromFiles];
    },
    () => {
      const line = restoreCommandLine(commandLine, machine.type);
      if (disksMode !== 'snapshot') return;
      const layered = disks.filter(({ isWritable }) => isWritable).map(asLayered);
      withLayers(line, layered, workingDirectory);
    },
    () => requireMachine(program, machine.type, member.command),
    () => {
      for (const { path, option } of neededFiles(options, workingDirectory)) {
        if (existsSync(path)) continue;
        throw new UmbraError({ code: 'E_VM_FILE', message: `${path} is gone (${option})` });
      }
    },
    () => {
      const changes = machineChanges(options, machine);
      if (changes.length === 0) return;
      const message = `since the VM was started, ${changes.join('; ')}`;
      throw new UmbraError({ code: 'E_VM_CHANGED', message });
    },
  ];
  return failuresOf(checks, member.name);
}

/**
 * Refuses a domain that can be brought back neither by map nor as a save image.
 * @throws UmbraError E_LIBVIRT_PAIR
 */
async function requireLoadable(uri: string, vm: VmProcess, qemuVersion: string): Promise<void> {
  const noMap = domainMemory(vm.commandLine);
  if (typeof noMap !== 'string') return;
  const noFile = await saveImageObstacle(uri, qemuVersion);
  if (noFile === undefined) return;
  throw new UmbraError({ code: 'E_LIBVIRT_PAIR', message: `${noFile}, and ${noMap}` });
}

async function failuresOf(checks: readonly (() => unknown)[], member: string): Promise<Failure[]> {
  const found: Failure[] = [];
  for (const check of checks) {
    try {
      await check();
    } catch (error) {
      found.push(toFailure(error, { member, where: 'plan restore' }));
    }
  }
  return found;
}

/**
 * Refuses VMs that share a disk which one of them writes to: no epoch could hold it at one instant.
 * @throws UmbraError E_DISK_SHARED, with both names
 */
export function requireOwnDisks(vms: readonly FoundVm[]): void {
  const users = new Map<string, { name: string; writes: boolean }>();
  for (const { member, examined } of vms) {
    for (const { device, files, isWritable } of examined.disks) {
      // Only the newest layer is written to; those below it may be read by all.
      for (const [depth, file] of files.entries()) {
        const id = fileId(file);
        if (id === undefined) continue;
        const writes = isWritable && depth === 0;
        const other = users.get(id);
        if (other !== undefined && other.name !== member.name && (other.writes || writes)) {
          const message = `${file}: ${member.name} (${device}) and ${other.name} use this disk`;
          throw new UmbraError({ code: 'E_DISK_SHARED', message, member: member.name });
        }
        if (other?.writes !== true) users.set(id, { name: member.name, writes });
      }
    }
  }
}

/**
 * Refuses a QEMU that has dropped its rights (-runas): it may not connect to a socket in Umbra's
 * folder, and says so only when it is to migrate.
 */
function requireOneUser({ pid }: VmProcess): void {
  const user = effectiveUser(pid);
  if (user === undefined || user === 0 || user === process.geteuid?.()) return;
  const message = `QEMU (pid ${pid}) runs as user ${user} and may not use Umbra's sockets`;
  throw new UmbraError({ code: 'E_VM_USER', message });
}

/** Returns the effective user of a process (proc(5), status); undefined if it has ended. */
function effectiveUser(pid: number): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const user = /^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1];
    return user === undefined ? undefined : Number(user);
  } catch {
    return undefined;
  }
}

function asLayered({ device, files }: ExamineResult['disks'][number]) {
  return { device, layers: files.map((path) => ({ path })), layer: `${files[0] ?? ''}.layer` };
}
