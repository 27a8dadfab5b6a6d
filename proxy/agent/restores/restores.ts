/**
 * Enacts restores on one host: starts QEMUs, has their proxies load them, and undoes all of it.
 *
 *     begin ──▶ load … load ──▶ end(done)
 *       │            └── a failure ──▶ end(undo): what this restore started is killed, nothing else
 *       └── a note on tmpfs: if this process dies in the middle, its next life undoes the restore
 */
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { markMapped } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import { clusterFile, memberFile } from '../../host/folders.ts';
import { isAlive, killProcess } from '../../host/pid-file.ts';
import type { MemberRestored, RestorePlan } from '../../protocol/agent.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';
import type { DomainPlan } from '../../protocol/member.ts';
import { DOMAIN_LOAD_LIMIT_MS } from '../../protocol/member.ts';
import { makeLayers } from '../vms/disk-layers.ts';
import { findDomain } from '../vms/libvirt-vm.ts';
import type { MemberProxy } from '../vms/member-proxy.ts';
import { forgetVm, recordedVm, recordVm, startVm, type VmProcess } from '../vms/vm-process.ts';
import { requireMember } from './members.ts';

/** Codes of a load that may succeed when the memory is not mapped. */
const MAY_BE_THE_MAP: ReadonlySet<string> = new Set(['E_LOAD_FAILED', 'E_QMP_CLOSED']);

/** The restores of one cluster, one at a time. */
export class Restores {
  readonly #config: ClusterConfig;
  readonly #log: Logger;
  readonly #started = new Map<string, VmProcess>();
  /** Layers of disks that this restore has made, by member. */
  readonly #layers = new Map<string, readonly string[]>();

  constructor(config: ClusterConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  /**
   * Starts a member's QEMU, or has libvirt do that, and loads its state. The VM stays stopped. What
   * is not loaded by map is loaded by stream, if the plan allows that.
   * @throws UmbraError E_VM_START, E_LOAD_FAILED, E_DISK_SNAPSHOT; LibvirtError
   */
  async load(plan: RestorePlan, proxy: MemberProxy): Promise<MemberRestored> {
    const member = requireMember(this.#config, plan.member);
    if (plan.mappedDirectory !== undefined) markMapped(plan.mappedDirectory);
    if (plan.domain !== undefined) return this.#loadDomain(plan, plan.domain, member, proxy);
    const { byStream } = plan;
    if (byStream === undefined) return this.#loadVm(plan, member, proxy);
    try {
      return await this.#loadVm(plan, member, proxy);
    } catch (error) {
      const { code, message } = toFailure(error, {});
      if (!MAY_BE_THE_MAP.has(code)) throw error;
      this.#log.warn({ member: plan.member, code, message }, 'does not load by map; by stream');
      await this.#undo(member);
      const streamed = { ...plan, mode: 'stream', commandLine: byStream } as const;
      const restored = await this.#loadVm(streamed, member, proxy);
      return { ...restored, reason: `by map it did not load: ${message}` };
    }
  }

  async #loadVm(
    plan: RestorePlan,
    member: MemberConfig,
    proxy: MemberProxy,
  ): Promise<MemberRestored> {
    const socket = memberFile(member.directory, 'incoming');
    // Sockets of a QEMU that has died would be taken for those of this one.
    for (const stale of [member.qmp, socket]) rmSync(stale, { force: true });
    const startedAt = performance.now();
    const { workingDirectory, shadowDirectory, mode, disks } = plan;
    await makeLayers(plan.commandLine[0] ?? '', disks, member.directory);
    this.#layers.set(
      plan.member,
      disks.map(({ layer }) => layer),
    );
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
        // The reason why a VM died says more than the proxy that lost it.
        if (!isAlive(vm.process)) await exited;
        throw error;
      });
      const { bytes } = await Promise.race([loaded, exited]);
      return { member: plan.member, mode, loadMs: performance.now() - startedAt, bytes };
    } catch (error) {
      throw UmbraError.received(toFailure(error, { member: plan.member, where: 'load' }), error);
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
      // A proxy that died may have given libvirt all it needed. No domain ran before, and no other
      // process restores, so one that runs now is this restore's.
      const left = await findDomain(libvirt).catch(() => undefined);
      if (left?.commandLine.includes('-incoming') === true) this.#started.set(name, left);
      throw UmbraError.received(toFailure(error, { member: name, where: 'load' }), error);
    }
  }

  /** Begins a restore, with a note that it is under way. */
  begin(): void {
    this.#started.clear();
    writeFileSync(this.#note, '', { mode: 0o600 });
  }

  /**
   * Ends the restore; `undo` first kills the VMs it has started, and removes the layers it has
   * made.
   */
  async end(how: 'done' | 'undo'): Promise<void> {
    if (how === 'undo') await Promise.all(this.#config.members.map((member) => this.#undo(member)));
    this.#layers.clear();
    this.#started.clear();
    await rm(this.#note, { force: true });
  }

  /** Kills what this restore has started for a member, and removes the layers it has made. */
  async #undo({ name, directory }: MemberConfig): Promise<void> {
    const vm = this.#started.get(name);
    if (vm !== undefined) {
      await killProcess(vm);
      await forgetVm(directory);
    }
    this.#started.delete(name);
    for (const layer of this.#layers.get(name) ?? []) await rm(layer, { force: true });
    this.#layers.delete(name);
  }

  /** Returns the file that is there while a restore is under way: half a restore is no cluster. */
  get #note(): string {
    return clusterFile(this.#config.directory, 'restore');
  }

  /** Undoes a restore in which an earlier life of this process died. */
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
}
