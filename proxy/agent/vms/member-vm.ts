/**
 * One member's VM on this host: started, found again, described, ended.
 *
 *     with a command      Umbra starts it, once; its pid file (vm.json) names the process
 *     by its QMP socket   the process that listens there now: its owner may have started it again
 *     of libvirt's        the process that libvirt names
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import { inForeground } from '../../command-line/option-list.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { isAlive, killProcess } from '../../host/pid-file.ts';
import type { MemberConfig } from '../../protocol/cluster.ts';
import { layerOwner } from '../../protocol/disk-layer.ts';
import { collectLayers, requireNoLayers } from './disk-layers.ts';
import { destroyDomain, domainXml, findDomain } from './libvirt-vm.ts';
import type { MemberProxy } from './member-proxy.ts';
import { findVm, forgetVm, recordedVm, recordVm, startVm, type VmProcess } from './vm-process.ts';

/** One member's VM. */
export class MemberVm {
  /** The part of a layer's name that says to which member it belongs (disk-layer.ts). */
  readonly diskOwner: string;
  readonly #config: MemberConfig;
  #domainXml: string | undefined;

  constructor(cluster: string, config: MemberConfig) {
    this.#config = config;
    this.diskOwner = layerOwner(cluster, config.name);
  }

  /** Returns the process that its pid file names; it may have ended. */
  get recorded(): VmProcess | undefined {
    return recordedVm(this.#config.directory);
  }

  /** Returns the recorded process if it has not ended. */
  get running(): VmProcess | undefined {
    const { recorded } = this;
    return recorded !== undefined && isAlive(recorded) ? recorded : undefined;
  }

  /** Returns a domain's XML as of the last `describe`. */
  get domainXml(): string | undefined {
    return this.#domainXml;
  }

  /**
   * Starts a VM that has a command and was never started. A VM that has died is left as it is: the
   * operator decides whether it is started afresh or restored with the others.
   * @returns true if it was started
   * @throws UmbraError E_VM_START, E_DISK_LAYERED, E_VM_GONE, E_VM_NOT_FOUND; LibvirtError
   */
  async boot(): Promise<boolean> {
    const { command, directory, workingDirectory } = this.#config;
    if (command === undefined) {
      await this.locate();
      return false;
    }
    if (this.recorded !== undefined) return false;
    await requireNoLayers(command, workingDirectory, this.diskOwner);
    await startVm(inForeground(command), workingDirectory, directory);
    return true;
  }

  /**
   * Looks for a VM that Umbra has not started: its owner may have started it again.
   * @throws UmbraError E_VM_GONE, E_VM_NOT_FOUND; LibvirtError
   */
  async locate(): Promise<void> {
    const { recorded } = this;
    if (recorded !== undefined && isAlive(recorded)) return;
    const { name: member, directory } = this.#config;
    try {
      recordVm(directory, await this.#find());
    } catch (error) {
      if (recorded === undefined) {
        throw UmbraError.received(toFailure(error, { member, where: 'find' }), error);
      }
      const message = `the VM of ${member} is gone`;
      throw new UmbraError({ code: 'E_VM_GONE', message, member, where: 'find' }, error);
    }
  }

  /** Reads a domain's XML again: it may have changed since the last round. */
  async describe(): Promise<void> {
    const { libvirt } = this.#config;
    this.#domainXml = libvirt && (await domainXml(libvirt));
  }

  /** Returns the recorded process, or one that the owner has started since on the same monitor. */
  async live(): Promise<VmProcess | undefined> {
    return this.running ?? this.#find().catch(() => undefined);
  }

  /**
   * Begins to merge layers of its disks that no epoch names, and removes those that are not in use.
   * A VM that does not run keeps all its layers: it is not known which ones it uses.
   * @param epochs all that there are
   * @returns the paths of the removed layers
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

  /** Ends the VM, and removes its pid file. */
  async kill(): Promise<void> {
    const { libvirt, directory } = this.#config;
    const vm = await this.live();
    if (libvirt !== undefined) await destroyDomain(libvirt);
    else if (vm !== undefined) await killProcess(vm);
    await forgetVm(directory);
  }

  /** Finds a VM that Umbra has not started. */
  #find(): Promise<VmProcess> {
    const { libvirt, qmp } = this.#config;
    return libvirt === undefined ? findVm(qmp) : findDomain(libvirt);
  }
}
