/**
 * Restores on one host: what to start, starting and loading it, and undoing all of it.
 *
 *     begin ──▶ load … load ──▶ end(done)
 *       │            └── any failure ──▶ end(undo): what this restore started is killed, nothing else
 *       └── a note on tmpfs, so that a restore cut short by our own death is undone by our next life
 */
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import {
  type EpochManifest,
  mainRamIndex,
  markMapped,
  openShadow,
  type SealedShadow,
} from '../../../shadow/index.ts';
import { withLayers } from '../../command-line/disks.ts';
import { domainMemory } from '../../command-line/domain-memory.ts';
import { mapObstacle } from '../../command-line/map-obstacle.ts';
import { type MappedRam, restoreCommandLine } from '../../command-line/restore-line.ts';
import { allOrFirstFailure } from '../../failure/all-or-first-failure.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { clusterFile, memberFile } from '../../host/folders.ts';
import { isAlive, killProcess } from '../../host/pid-file.ts';
import type { MemberRestored, RestorePlan } from '../../protocol/agent.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';
import { layerOver, layerOwner, type RestoredDisk } from '../../protocol/disk-layer.ts';
import type { DomainPlan, RestoreMode } from '../../protocol/member.ts';
import { DOMAIN_LOAD_LIMIT_MS } from '../../protocol/member.ts';
import { makeLayers, requireLayers } from '../vms/disk-layers.ts';
import { findDomain } from '../vms/libvirt-vm.ts';
import type { MemberProxy } from '../vms/member-proxy.ts';
import { forgetVm, recordedVm, recordVm, startVm, type VmProcess } from '../vms/vm-process.ts';
import { requireMachine } from './machine-type.ts';

type EpochMember = EpochManifest['members'][number];

export class Restores {
  readonly #config: ClusterConfig;
  readonly #log: Logger;
  readonly #started = new Map<string, VmProcess>();
  /** Made for it, of disks. */
  readonly #layers: string[] = [];

  constructor(config: ClusterConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  /**
   * How the members of an epoch are to be brought back. Changes nothing.
   * @throws UmbraError E_MACHINE_TYPE, E_MAP_UNSUPPORTED, E_COMMAND_LINE, or a damaged shadow's
   */
  plan({ round, members }: EpochManifest, wanted: RestoreMode | 'auto'): Promise<RestorePlan[]> {
    return allOrFirstFailure(
      members.map(async (member) => {
        try {
          return await this.#planMember(round, member, wanted);
        } catch (error) {
          const context = { member: member.name, where: 'plan restore' };
          throw new UmbraError(toFailure(error, context), error);
        }
      }),
    );
  }

  async #planMember(
    round: string,
    epochMember: EpochMember,
    wanted: RestoreMode | 'auto',
  ): Promise<RestorePlan> {
    const { name, shadow: sha256 } = epochMember;
    const member = this.#member(name);
    const shadowDirectory = join(this.#config.shadowsDirectory, round, name);
    const shadow = await openShadow(shadowDirectory, sha256);
    const { manifest } = shadow;
    if (member.libvirt !== undefined) return domainPlan(shadow, wanted);
    const { commandLine, machineType, workingDirectory } = manifest.identity;
    await requireMachine(commandLine[0] ?? '', machineType, member.command);
    const main = manifest.blocks[mainRamIndex(manifest)];
    const obstacle = main && mapObstacle(commandLine, main.idstr);
    if (wanted === 'map' && obstacle !== undefined) {
      throw new UmbraError({ code: 'E_MAP_UNSUPPORTED', message: `cannot map: ${obstacle}` });
    }
    const mode = wanted === 'auto' ? (obstacle === undefined ? 'map' : 'stream') : wanted;
    const mapped = mode === 'map' ? mappedRam(shadow) : undefined;
    const disks = this.#layersOver(epochMember);
    const line = restoreCommandLine(commandLine, machineType, mapped);
    return {
      member: name,
      mode,
      reason: wanted === 'auto' ? obstacle : undefined,
      commandLine: withLayers(line, disks, workingDirectory),
      recordedCommandLine: commandLine,
      workingDirectory,
      shadowDirectory,
      disks,
      mappedDirectory: mapped && dirname(mapped.path),
    };
  }

  /** Each restore writes to layers of its own: what the epoch names stays as it is. */
  #layersOver({ name, disks = [] }: EpochMember): RestoredDisk[] {
    const owner = layerOwner(this.#config.cluster, name);
    const restored = disks.map((disk) => {
      const id = randomBytes(4).toString('hex');
      return { ...disk, layer: layerOver(disk.layers[0]?.path ?? '', owner, id) };
    });
    requireLayers(restored);
    return restored;
  }

  async load(plan: RestorePlan, proxy: MemberProxy): Promise<MemberRestored> {
    const member = this.#member(plan.member);
    if (plan.mappedDirectory !== undefined) markMapped(plan.mappedDirectory);
    if (plan.domain !== undefined) return this.#loadDomain(plan, plan.domain, member, proxy);
    const socket = memberFile(member.directory, 'incoming');
    // A dead QEMU's would be taken for this one's.
    for (const stale of [member.qmp, socket]) rmSync(stale, { force: true });
    const startedAt = performance.now();
    const { workingDirectory, shadowDirectory, mode, disks } = plan;
    await makeLayers(plan.commandLine[0] ?? '', disks, member.directory);
    this.#layers.push(...disks.map(({ layer }) => layer));
    const commandLine = [...plan.commandLine, '-incoming', `unix:${socket}`];
    const recorded = plan.recordedCommandLine;
    const vm = await startVm(commandLine, workingDirectory, member.directory, recorded);
    this.#started.set(plan.member, vm.process);
    void vm.exited.then((why) => {
      this.#log.info({ member: plan.member, pid: vm.process.pid, why }, 'a restored VM has ended');
    });
    faultPoint('restore/started');
    const exited = vm.exited.then((why) => {
      throw new UmbraError({ code: 'E_LOAD_FAILED', message: why, member: plan.member });
    });
    exited.catch(() => {});
    try {
      const request = { type: 'load', shadowDirectory, mode } as const;
      const loaded = proxy.request(request).catch(async (error: unknown) => {
        // A VM that died says best itself why.
        if (!isAlive(vm.process)) await exited;
        throw error;
      });
      const { bytes } = await Promise.race([loaded, exited]);
      return { member: plan.member, mode, loadMs: performance.now() - startedAt, bytes };
    } catch (error) {
      throw new UmbraError(toFailure(error, { member: plan.member, where: 'load' }), error);
    }
  }

  async #loadDomain(
    { shadowDirectory, member: name }: RestorePlan,
    plan: DomainPlan,
    { libvirt, directory }: MemberConfig,
    proxy: MemberProxy,
  ): Promise<MemberRestored> {
    if (libvirt === undefined) throw new Error(`${name} is no domain`);
    const startedAt = performance.now();
    try {
      const request = { type: 'load-domain', shadowDirectory, plan } as const;
      const loaded = await proxy.request(request, DOMAIN_LOAD_LIMIT_MS);
      const vm = await findDomain(libvirt);
      recordVm(directory, vm);
      this.#started.set(name, vm);
      return { member: name, loadMs: performance.now() - startedAt, ...loaded };
    } catch (error) {
      // A proxy that died may have given libvirt all it needed. None ran before, and others do not restore.
      const left = await findDomain(libvirt).catch(() => undefined);
      if (left?.commandLine.includes('-incoming') === true) this.#started.set(name, left);
      throw new UmbraError(toFailure(error, { member: name, where: 'load' }), error);
    }
  }

  begin(): void {
    this.#started.clear();
    writeFileSync(this.#note, '', { mode: 0o600 });
  }

  async end(how: 'done' | 'undo'): Promise<void> {
    if (how === 'undo') {
      await Promise.all([...this.#started.values()].map((vm) => killProcess(vm)));
      for (const name of this.#started.keys()) await forgetVm(this.#member(name).directory);
      for (const layer of this.#layers) await rm(layer, { force: true });
    }
    this.#layers.length = 0;
    this.#started.clear();
    await rm(this.#note, { force: true });
  }

  /** There while a restore is under way: a partial one must not be taken for a cluster. */
  get #note(): string {
    return clusterFile(this.#config.directory, 'restore');
  }

  /** An earlier life died in a restore: what it had started is no cluster. */
  async undoCutShort(): Promise<void> {
    if (!existsSync(this.#note)) return;
    const { mtimeMs } = statSync(this.#note);
    this.#log.warn('a restore was cut short; undoing it');
    for (const { directory } of this.#config.members) {
      const vm = recordedVm(directory);
      const begun = vm !== undefined && statSync(memberFile(directory, 'vm')).mtimeMs >= mtimeMs;
      if (!begun) continue;
      await killProcess(vm);
      await forgetVm(directory);
    }
    await rm(this.#note, { force: true });
  }

  #member(name: string): MemberConfig {
    const member = this.#config.members.find((one) => one.name === name);
    if (member !== undefined) return member;
    const message = `the epoch has a member ${name}, this cluster has not`;
    throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, member: name });
  }
}

/** libvirt starts it, from what looks like a save image. */
function domainPlan(shadow: SealedShadow, wanted: RestoreMode | 'auto'): RestorePlan {
  const { directory, manifest } = shadow;
  const { domainXml: xml, commandLine } = manifest.identity;
  if (xml === undefined) {
    const message = 'the epoch does not know its domain XML: libvirt did not run it then';
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message });
  }
  const main = mappedRam(shadow);
  const found = wanted === 'stream' ? undefined : domainMemory(commandLine, main.id);
  const obstacle = typeof found === 'string' ? found : undefined;
  const insists = wanted === 'map';
  if (insists && obstacle !== undefined) {
    throw new UmbraError({ code: 'E_MAP_UNSUPPORTED', message: `cannot map: ${obstacle}` });
  }
  const location = typeof found === 'string' ? undefined : found;
  const memory = location && { ...location, image: main.path, bytes: main.bytes };
  return {
    ...{ member: manifest.member, mode: memory ? 'map' : 'libvirt', reason: obstacle },
    ...{ commandLine: [], recordedCommandLine: [], workingDirectory: '/' },
    ...{ shadowDirectory: directory, domain: { xml, memory, insists }, disks: [] },
    mappedDirectory: memory && dirname(main.path),
  };
}

/** The full image of main RAM: the shadow's own, or that of its base. */
function mappedRam({ directory, manifest, base }: SealedShadow): MappedRam {
  const own = manifest.blocks[mainRamIndex(manifest)];
  if (own === undefined) throw new Error('a shadow without RAM');
  const { idstr: id, bytes } = own;
  if (own.kind === 'full') return { id, bytes, path: join(directory, own.file) };
  const based = base?.manifest.blocks.find(({ idstr }) => idstr === id);
  if (base === undefined || based === undefined) throw new Error('a delta without its base');
  return { id, bytes, path: join(base.directory, based.file) };
}
