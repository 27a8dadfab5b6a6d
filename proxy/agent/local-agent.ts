/**
 * The agent of one host: owns the proxies of its members, their VMs and their shadows.
 *
 * When a proxy ends in a round, its VM may stand stopped: the agent starts a new proxy at once and
 * has it put the VM right from the journal (`rescue`).
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import {
  type Catalogue,
  collectLeftovers,
  type EpochManifest,
  makeOwnFolder,
  openShadow,
  type PersistResult,
  type Progress,
  pruneSpares,
  requireRoom,
  type SealedShadow,
  spareDirectory,
  verifyShadow,
} from '../../shadow/index.ts';
import type { ClusterConfig, MemberConfig } from '../config.ts';
import { type FrozenDisk, layerOwner } from '../disk-layer.ts';
import { toFailure, UmbraError } from '../failure.ts';
import { faultPoint } from '../fault-point.ts';
import type {
  ExamineResult,
  MemberNotice,
  MergeResult,
  ProbeResult,
  RestoreMode,
  ResumeResult,
} from '../member/messages.ts';
import { RoundAdmission } from './admission.ts';
import { cloningAgent } from './cloning-agent.ts';
import type {
  Admission,
  Agent,
  AgentCommand,
  AgentNotice,
  CloneOrigin,
  MemberRestored,
  MemberStatus,
  RestorePlan,
  RestoringAgent,
  RoundTerms,
} from './contract.ts';
import { collectLayers, requireNoLayers } from './disk-layers.ts';
import { DurableTier } from './durable-tier.ts';
import { deltaShare, foldEpoch, ramBytesOf } from './folding.ts';
import { destroyDomain, domainXml, findDomain } from './libvirt-vm.ts';
import { learnMachines } from './machine-type.ts';
import { MemberProxy } from './member-proxy.ts';
import { isAlive, killProcess } from './process-card.ts';
import { Restores } from './restores.ts';
import { findVm, forgetVm, recordedVm, recordVm, startVm, type VmProcess } from './vm-process.ts';

/** Reading whole images is bound by the cores, not by the number of members. */
const VERIFY_AT_ONCE = 2;
const RESCUE_RETRY_MS = 1_000;
const START_ATTEMPTS = 5;

interface Member {
  readonly config: MemberConfig;
  readonly directory: string;
  proxy: MemberProxy | undefined;
  /** The round its proxy is in. */
  round: string | undefined;
  /** The proxy that was told to prepare for it. */
  preparedWith: MemberProxy | undefined;
  /** Settles when its proxy has ended and another has taken its place. */
  replaced: Promise<void>;
  /** There may be a journal of a proxy that died. */
  awaitsRescue: boolean;
  /** Of a domain, as it was admitted. */
  domainXml: string | undefined;
}

export class LocalAgent implements Agent {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #log: Logger;
  readonly #members = new Map<string, Member>();
  /** Rounds under way, and how many members are still in each. */
  readonly #activeRounds = new Map<string, number>();
  readonly #admission: RoundAdmission;
  #listener: (notice: AgentNotice) => void = () => {};
  readonly #restores: Restores;
  readonly #durable: DurableTier;
  #closing = false;

  constructor(config: ClusterConfig, catalogue: Catalogue, log: Logger) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#log = log;
    this.#admission = new RoundAdmission(config, catalogue);
    this.#restores = new Restores(config, log);
    this.#durable = new DurableTier(config);
    for (const member of config.members) {
      const { directory } = member;
      this.#members.set(member.name, {
        config: member,
        directory,
        proxy: undefined,
        round: undefined,
        preparedWith: undefined,
        replaced: Promise.resolve(),
        awaitsRescue: true,
        domainXml: undefined,
      });
    }
  }

  get members(): readonly string[] {
    return [...this.#members.keys()];
  }

  /** Starts the proxies, and puts right what an earlier life left. */
  async start(): Promise<void> {
    // Elsewhere than in the cluster's own folder, it has one of its own there.
    makeOwnFolder(dirname(this.#config.shadowsDirectory));
    makeOwnFolder(this.#config.shadowsDirectory);
    await this.collect('free');
    await this.#restores.undoCutShort();
    await Promise.all(
      [...this.#members.values()].map(async (member) => {
        makeOwnFolder(member.directory);
        await this.#startProxy(member);
      }),
    );
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#durable.close();
    await Promise.all(
      [...this.#members.values()].map(async (member) => {
        await member.proxy?.close();
        await member.replaced;
      }),
    );
  }

  onNotice(listener: (notice: AgentNotice) => void): void {
    this.#listener = listener;
  }

  status(): Promise<MemberStatus[]> {
    return Promise.all(
      [...this.#members.values()].map(async ({ config, directory, proxy, round }) => {
        const vm = recordedVm(directory);
        const probe = round === undefined ? await this.#probe(proxy) : IN_ROUND;
        return {
          member: config.name,
          ...probe,
          pid: vm !== undefined && isAlive(vm) ? vm.pid : undefined,
          proxyPid: proxy?.isGone === false ? proxy.pid : undefined,
          owned: vm?.owned ?? false,
        };
      }),
    );
  }

  async #probe(proxy: MemberProxy | undefined): Promise<ProbeResult> {
    if (proxy === undefined) return UNKNOWN;
    try {
      return await proxy.request<ProbeResult>({ type: 'probe' });
    } catch (error) {
      return { ...UNKNOWN, status: toFailure(error, {}).code };
    }
  }

  /**
   * Starts the VMs of members that have a command and were never started. One that has died is
   * left: to start it afresh, or to restore it with the others, is the operator's choice.
   */
  async boot(): Promise<string[]> {
    const started: string[] = [];
    await Promise.all(
      [...this.#members.values()].map(async (member) => {
        const { command, name, workingDirectory } = member.config;
        if (command === undefined) {
          await this.#locateVm(member);
        } else if (recordedVm(member.directory) === undefined) {
          await requireNoLayers(command, workingDirectory, layerOwner(this.#config.cluster, name));
          await startVm(command, workingDirectory, member.directory);
          started.push(name);
        }
      }),
    );
    return started;
  }

  /** An attached VM may have been started again by its owner: look who listens now. */
  async #locateVm({ config, directory }: Member): Promise<void> {
    const recorded = recordedVm(directory);
    if (recorded !== undefined && isAlive(recorded)) return;
    try {
      recordVm(directory, await findMember(config));
    } catch (error) {
      const { name: member } = config;
      if (recorded === undefined) {
        throw new UmbraError(toFailure(error, { member, where: 'find' }), error);
      }
      const message = `the VM of ${member} is gone`;
      throw new UmbraError({ code: 'E_VM_GONE', message, member, where: 'find' }, error);
    }
  }

  async admit(): Promise<Admission> {
    await Promise.all([...this.#members.values()].map((member) => this.#locateVm(member)));
    await Promise.all([...this.#members.values()].map((member) => describeDomain(member)));
    for (const { directory } of this.#members.values()) {
      void learnMachines(recordedVm(directory)?.commandLine[0] ?? '');
    }
    const examined = await Promise.all(
      [...this.#members.values()].map(async (member) => {
        const found = await this.#proxyOf(member).request<ExamineResult>({ type: 'examine' });
        return [member.config.name, found] as const;
      }),
    );
    return this.#admission.admit(new Map(examined));
  }

  async beginRound(round: string): Promise<void> {
    this.#activeRounds.set(round, this.#members.size);
    await mkdir(join(this.#config.shadowsDirectory, round), { mode: 0o700 });
  }

  prepare(round: string, name: string, terms: RoundTerms): void {
    const member = this.#member(name);
    const vm = recordedVm(member.directory);
    const { base, admittedBytes = 0, moreBytes = 0 } = this.#admission.planOf(name) ?? {};
    const { headroomBytes } = this.#config.store;
    member.round = round;
    member.preparedWith = undefined;
    this.#withProxy(member, (proxy) => {
      member.preparedWith = proxy;
      proxy.command({
        type: 'prepare',
        round,
        shadowDirectory: this.#shadowDirectory(round, name),
        spareDirectory: spareDirectory(this.#config.shadowsDirectory),
        staging: { base, admittedBytes, moreBytes, headroomBytes },
        commandLine: vm?.commandLine ?? member.config.command ?? [],
        workingDirectory: vm?.workingDirectory ?? member.config.workingDirectory,
        domainXml: member.domainXml,
        vm: vm && { pid: vm.pid, startTime: vm.startTime },
        diskOwner: layerOwner(this.#config.cluster, name),
        ...terms,
      });
    });
  }

  command(inRound: string, name: string, type: AgentCommand): void {
    const member = this.#member(name);
    const { round } = member;
    if (round === undefined) {
      // It left the round already; an abort wants to hear so.
      if (type === 'abort') this.#tellGone(member, inRound);
      return;
    }
    this.#withProxy(member, (proxy) => proxy.command({ type, round }));
    if (type === 'commit') this.#leaveRound(member);
  }

  alive(silenceMs: number): void {
    for (const { config, proxy, round } of this.#members.values()) {
      if (round === undefined || proxy === undefined) continue;
      proxy.command({ type: 'alive' });
      if (proxy.silentForMs <= silenceMs) continue;
      // Frozen: it would hold its VM's monitor for ever, and the VM with it.
      this.#log.warn({ member: config.name, silenceMs }, 'proxy silent; killing it');
      proxy.kill();
    }
  }

  async collect(how: 'recycle' | 'free'): Promise<readonly string[]> {
    const { shadowsDirectory, store } = this.#config;
    const keep = new Set([...this.#activeRounds.keys(), ...this.#durable.held]);
    const recycle = how === 'recycle' && store.recycle;
    const removed = await collectLeftovers(shadowsDirectory, this.#catalogue, {
      keep,
      recycle,
      onStep: (step) => faultPoint(`store/${step}`),
    });
    // Whoever removes an epoch wants its memory back.
    if (how === 'free') await pruneSpares(shadowsDirectory, { full: [], deltaBytes: 0 });
    return removed;
  }

  async tidyDisks(epochs: readonly EpochManifest[]): Promise<void> {
    if (this.#config.round.disks === 'leave') return;
    await Promise.all(
      [...this.#members.values()].map(async ({ config: { name }, directory, proxy }) => {
        const vm = recordedVm(directory);
        if (proxy === undefined || vm === undefined || !isAlive(vm)) return;
        const disks = disksOf(epochs, name);
        const needed = disks.flatMap(({ layers: [top] }) => (top === undefined ? [] : [top.path]));
        const owner = layerOwner(this.#config.cluster, name);
        const { workingDirectory } = vm;
        const request = { type: 'merge-layers', workingDirectory, owner, needed } as const;
        const { files } = await proxy.request<MergeResult>(request);
        const removed = await collectLayers(owner, files, disks);
        if (removed.length > 0)
          this.#log.info({ member: name, removed }, 'layers of disks removed');
      }),
    );
  }

  async deltaShare(epoch: EpochManifest): Promise<number> {
    const shadows = await this.#openShadows(epoch);
    return deltaShare(shadows);
  }

  async fold(
    epoch: EpochManifest,
    round: string,
    signal: AbortSignal,
  ): Promise<EpochManifest['members']> {
    const shadows = await this.#openShadows(epoch);
    const { shadowsDirectory, store } = this.#config;
    const neededBytes = ramBytesOf(shadows);
    await this.#admission.requireBudget(neededBytes, 0);
    requireRoom(shadowsDirectory, neededBytes, store.headroomBytes);
    this.#activeRounds.set(round, 1);
    try {
      return await foldEpoch(epoch, shadows, { shadowsDirectory, round }, signal);
    } catch (error) {
      this.endFold(round);
      throw error;
    }
  }

  endFold(round: string): void {
    this.#activeRounds.delete(round);
  }

  #openShadows({ round, members }: EpochManifest): Promise<SealedShadow[]> {
    return Promise.all(
      members.map(({ name, shadow }) => openShadow(this.#shadowDirectory(round, name), shadow)),
    );
  }

  async verify(epoch: EpochManifest, mode: 'changed' | 'all'): Promise<void> {
    const limit = pLimit(VERIFY_AT_ONCE);
    await allOrFirstFailure(
      epoch.members.map(({ name, shadow }) =>
        limit(async () => {
          const directory = this.#shadowDirectory(epoch.round, name);
          try {
            await verifyShadow(await openShadow(directory, shadow), mode);
          } catch (error) {
            throw new UmbraError(toFailure(error, { member: name, where: 'verify' }), error);
          }
        }),
      ),
    );
  }

  async alivePids(): Promise<ReadonlyMap<string, number>> {
    const found = await Promise.all(
      [...this.#members.values()].map(async ({ config, directory }) => {
        return [config.name, await this.#liveVm(config, directory)] as const;
      }),
    );
    return new Map(found.flatMap(([name, vm]) => (vm === undefined ? [] : [[name, vm.pid]])));
  }

  async killVm(name: string): Promise<void> {
    const { directory, config } = this.#member(name);
    const vm = await this.#liveVm(config, directory);
    if (config.libvirt !== undefined) await destroyDomain(config.libvirt);
    else if (vm !== undefined) await killProcess(vm);
    await forgetVm(directory);
  }

  /** The VM we know of, or one its owner has started since on the same monitor. */
  async #liveVm(config: MemberConfig, directory: string): Promise<VmProcess | undefined> {
    const recorded = recordedVm(directory);
    if (recorded !== undefined && isAlive(recorded)) return recorded;
    return findMember(config).catch(() => undefined);
  }

  persist(epoch: EpochManifest, onProgress: (progress: Progress) => void): Promise<PersistResult> {
    return this.#durable.persist(epoch, onProgress);
  }

  endPersist(): void {
    this.#durable.endPersist();
  }

  async fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: Progress) => void,
  ): Promise<number> {
    try {
      return await this.#durable.fetch(epoch, trust, onProgress);
    } catch (error) {
      await this.collect('free'); // the first shadows may have come whole
      throw error;
    }
  }

  verifyDurable(epoch: EpochManifest): Promise<void> {
    return this.#durable.verify(epoch);
  }

  planRestore(epoch: EpochManifest, mode: RestoreMode | 'auto'): Promise<RestorePlan[]> {
    return allOrFirstFailure(
      epoch.members.map((member) => this.#restores.plan(epoch.round, member, mode)),
    );
  }

  cloneOf(origin: CloneOrigin): RestoringAgent {
    // Never started: it only reads.
    const source = new LocalAgent(origin.source, this.#catalogue, this.#log);
    return cloningAgent(this, source, origin, this.#config);
  }

  async beginRestore(): Promise<void> {
    this.#restores.begin();
  }

  load(plan: RestorePlan): Promise<MemberRestored> {
    return this.#restores.load(plan, this.#proxyOf(this.#member(plan.member)));
  }

  endRestore(how: 'done' | 'undo'): Promise<void> {
    return this.#restores.end(how);
  }

  async resume(name: string): Promise<number> {
    const proxy = this.#proxyOf(this.#member(name));
    const { resumedAtUs } = await proxy.request<ResumeResult>({ type: 'resume' });
    return resumedAtUs;
  }

  async #startProxy(member: Member): Promise<void> {
    const { config, directory } = member;
    const { name, qmp, libvirt } = config;
    const place = { member: name, qmp, directory, ...(libvirt && { libvirt }) };
    const proxy = await MemberProxy.start(place, this.#log);
    member.proxy = proxy;
    proxy.onNotice((notice) => this.#onNotice(member, notice));
    const replaced = proxy.exited.then(() => this.#onProxyGone(member));
    member.replaced = replaced.catch((error: unknown) => {
      this.#log.error({ err: error, member: config.name }, 'could not replace a proxy');
    });
    if (member.awaitsRescue) await this.#rescue(member, proxy);
  }

  /** Puts right what a dead proxy left, as its journal says. A failure is told, and tried again. */
  async #rescue(member: Member, proxy: MemberProxy): Promise<void> {
    try {
      await proxy.request({ type: 'rescue' });
      member.awaitsRescue = false;
    } catch (error) {
      const failure = toFailure(error, { member: member.config.name, where: 'rescue' });
      this.#log.error({ failure }, 'could not put a VM right; trying again');
      if (!this.#closing) setTimeout(() => void this.#rescue(member, proxy), RESCUE_RETRY_MS);
    }
  }

  /**
   * A proxy ended. If that was in a round, its VM may stand: another proxy puts it right at once,
   * even when we are closing. The round hears of it afterwards, when the VM runs again.
   */
  async #onProxyGone(member: Member): Promise<void> {
    const { name } = member.config;
    const gone = member.proxy;
    const inRound = member.round !== undefined;
    if (this.#closing && !inRound) return;
    this.#log.warn({ member: name, round: member.round }, 'proxy gone; starting another');
    member.awaitsRescue = true;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#startProxy(member);
        break;
      } catch (error) {
        const failure = toFailure(error, { member: name, where: 'start proxy' });
        this.#log.error({ failure, attempt }, 'could not start a proxy');
        if (attempt >= START_ATTEMPTS) break;
        await delay(RESCUE_RETRY_MS);
      }
    }
    // Whatever round it is in by now was prepared with the proxy that is gone, or with none.
    const { round } = member;
    if (round !== undefined && member.preparedWith !== member.proxy) {
      this.#leaveRound(member);
      this.#tellGone(member, round);
    }
    if (this.#closing && member.proxy !== gone) await member.proxy?.close();
  }

  #tellGone(member: Member, round: string): void {
    const { name } = member.config;
    const message = 'its proxy ended in the middle of the round';
    const failure = { code: 'E_PROXY_GONE', message, member: name };
    this.#listener({ type: 'report', member: name, round, report: 'gone', facts: {}, failure });
  }

  #onNotice(member: Member, notice: MemberNotice): void {
    const { name } = member.config;
    if (notice.round !== member.round) return;
    if (notice.type === 'report' && notice.report === 'aborted') this.#leaveRound(member);
    this.#listener({ ...notice, member: name });
  }

  #leaveRound(member: Member): void {
    const { round } = member;
    member.round = undefined;
    if (round === undefined) return;
    const others = (this.#activeRounds.get(round) ?? 1) - 1;
    if (others > 0) this.#activeRounds.set(round, others);
    else this.#activeRounds.delete(round);
  }

  /** When the proxy is gone, its replacement reports that: onProxyGone is under way. */
  #withProxy(member: Member, use: (proxy: MemberProxy) => void): void {
    const { proxy } = member;
    if (proxy?.isGone === false) use(proxy);
  }

  #proxyOf({ proxy, config }: Member): MemberProxy {
    if (proxy !== undefined) return proxy;
    const { name: member } = config;
    throw new UmbraError({ code: 'E_PROXY_GONE', message: 'this member has no proxy', member });
  }

  #member(name: string): Member {
    const member = this.#members.get(name);
    if (member !== undefined) return member;
    const message = `there is no member ${name} in this cluster`;
    throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, member: name });
  }

  #shadowDirectory(round: string, member: string): string {
    return join(this.#config.shadowsDirectory, round, member);
  }
}

function disksOf(epochs: readonly EpochManifest[], name: string): FrozenDisk[] {
  return epochs
    .flatMap(({ members }) => members.filter((member) => member.name === name))
    .flatMap(({ disks = [] }) => disks);
}

/** The QEMU of a member that Umbra has not started. */
function findMember({ libvirt, qmp }: MemberConfig): Promise<VmProcess> {
  return libvirt === undefined ? findVm(qmp) : findDomain(libvirt);
}

/** Its description may have been changed since the last round. */
async function describeDomain(member: Member): Promise<void> {
  const { libvirt } = member.config;
  member.domainXml = libvirt && (await domainXml(libvirt));
}

/** Like Promise.all, but a failure is told only when nothing goes on behind its back any more. */
async function allOrFirstFailure<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

const IN_ROUND = { status: 'in a round', running: true, qemuVersion: '' };
const UNKNOWN = { status: 'unknown', running: false, qemuVersion: '' };
