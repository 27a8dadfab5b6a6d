/**
 * One member's VM on this host: started, found again, described, ended.
 *
 *     with a command      Umbra starts it, once; its card (vm.json) says which process it is
 *     by its QMP socket   whoever listens there now: its owner may have started it again
 *     of libvirt's        what libvirt says
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { isAlive, killProcess } from '../../host/pid-file.ts';
import type { MemberConfig } from '../../protocol/cluster.ts';
import { layerOwner } from '../../protocol/disk-layer.ts';
import { collectLayers, requireNoLayers } from './disk-layers.ts';
import { destroyDomain, domainXml, findDomain } from './libvirt-vm.ts';
import type { MemberProxy } from './member-proxy.ts';
import { findVm, forgetVm, recordedVm, recordVm, startVm, type VmProcess } from './vm-process.ts';

export class MemberVm {
  /** In the names of layers over its disks (disk-layer.ts). */
  readonly diskOwner: string;
  readonly #config: MemberConfig;
  #domainXml: string | undefined;

  constructor(cluster: string, config: MemberConfig) {
    this.#config = config;
    this.diskOwner = layerOwner(cluster, config.name);
  }

  /** As its card says; it may have ended. */
  get recorded(): VmProcess | undefined {
    return recordedVm(this.#config.directory);
  }

  /** The recorded one, if it has not ended. */
  get running(): VmProcess | undefined {
    const { recorded } = this;
    return recorded !== undefined && isAlive(recorded) ? recorded : undefined;
  }

  /** Of a domain, as it was when it was last described. */
  get domainXml(): string | undefined {
    return this.#domainXml;
  }

  /**
   * Starts one that has a command and was never started. One that has died is left: to start it afresh, or
   * to restore it with the others, is the operator's choice.
   * @returns whether it was started
   * @throws UmbraError E_VM_START, E_DISK_LAYERED, E_VM_GONE, or why it is not found
   */
  async boot(): Promise<boolean> {
    const { command, directory, workingDirectory } = this.#config;
    if (command === undefined) {
      await this.locate();
      return false;
    }
    if (this.recorded !== undefined) return false;
    await requireNoLayers(command, workingDirectory, this.diskOwner);
    await startVm(command, workingDirectory, directory);
    return true;
  }

  /**
   * An attached VM may have been started again by its owner: looks who listens now.
   * @throws UmbraError E_VM_GONE, or why it is not found
   */
  async locate(): Promise<void> {
    const { recorded } = this;
    if (recorded !== undefined && isAlive(recorded)) return;
    const { name: member, directory } = this.#config;
    try {
      recordVm(directory, await this.#find());
    } catch (error) {
      if (recorded === undefined) {
        throw new UmbraError(toFailure(error, { member, where: 'find' }), error);
      }
      const message = `the VM of ${member} is gone`;
      throw new UmbraError({ code: 'E_VM_GONE', message, member, where: 'find' }, error);
    }
  }

  /** A domain's description may have been changed since the last round. */
  async describe(): Promise<void> {
    const { libvirt } = this.#config;
    this.#domainXml = libvirt && (await domainXml(libvirt));
  }

  /** The VM we know of, or one its owner has started since on the same monitor. */
  async live(): Promise<VmProcess | undefined> {
    return this.running ?? this.#find().catch(() => undefined);
  }

  /**
   * Begins to merge layers of its disks that no epoch names, and removes those nobody uses. What a VM that does
   * not run would use is not known, and stays.
   * @param epochs all there are
   * @returns what was removed
   */
  async tidyLayers(epochs: readonly EpochManifest[], proxy: MemberProxy): Promise<string[]> {
    const vm = this.running;
    if (vm === undefined) return [];
    const { name } = this.#config;
    const frozen = epochs
      .flatMap(({ members }) => members.filter((member) => member.name === name))
      .flatMap(({ disks = [] }) => disks);
    const needed = frozen.flatMap(({ layers: [top] }) => (top === undefined ? [] : [top.path]));
    const { workingDirectory } = vm;
    const owner = this.diskOwner;
    const request = { type: 'merge-layers', workingDirectory, owner, needed } as const;
    const { files } = await proxy.request(request);
    return collectLayers(owner, files, frozen);
  }

  /** Ends it, and forgets it. */
  async kill(): Promise<void> {
    const { libvirt, directory } = this.#config;
    const vm = await this.live();
    if (libvirt !== undefined) await destroyDomain(libvirt);
    else if (vm !== undefined) await killProcess(vm);
    await forgetVm(directory);
  }

  /** One that Umbra has not started. */
  #find(): Promise<VmProcess> {
    const { libvirt, qmp } = this.#config;
    return libvirt === undefined ? findVm(qmp) : findDomain(libvirt);
  }
}
