/**
 * The agent of one host: offers what a coordinator asks for (protocol/agent.ts).
 *
 *     members     vms/        each has a proxy (proxy-supervisor.ts) and a VM (member-vm.ts)
 *     epochs      store/      in memory (shadow-store.ts), and the room for more (admission.ts)
 *                 durable/    on disk (durable-tier.ts)
 *     restores    restores/   of epochs into VMs (restores.ts), also of a clone (cloning-agent.ts)
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import type { PersistProgress, PersistResult } from '../../shadow/durable/index.ts';
import {
  type Catalogue,
  type EpochManifest,
  makeOwnFolder,
  spareDirectory,
} from '../../shadow/index.ts';
import { allOrFirstFailure } from '../failure/all-or-first-failure.ts';
import { UmbraError } from '../failure/failure.ts';
import { clusterFolder } from '../host/folders.ts';
import type {
  Admission,
  Agent,
  AgentCommand,
  AgentNotice,
  CloneOrigin,
  DurableList,
  DurableRequest,
  FoldUnderWay,
  MemberProven,
  MemberRestored,
  MemberStatus,
  RelayedOrigin,
  RestoreChoices,
  RestorePlan,
  RestoringAgent,
  RoundSettings,
} from '../protocol/agent.ts';
import type { ClusterConfig, MemberConfig } from '../protocol/cluster.ts';
import type { ClockResult, ExaminedVm } from '../protocol/member.ts';
import { DurableTier } from './durable/durable-tier.ts';
import { cloningAgent } from './restores/cloning-agent.ts';
import { type FoundVm, requireOwnDisks, restoreObstacles } from './restores/dry-plan.ts';
import { keepProgram, replacedProgram } from './restores/kept-program.ts';
import { planRestore } from './restores/plan.ts';
import { endProofsCutShort, proveMember } from './restores/proof.ts';
import { relayedAgent } from './restores/relayed-agent.ts';
import { Restores } from './restores/restores.ts';
import { RoundAdmission } from './store/admission.ts';
import { fillMappedHoles, reclaimMappedHoles } from './store/mapped-holes.ts';
import { RoundsInUse } from './store/rounds-in-use.ts';
import { ShadowStore } from './store/shadow-store.ts';
import { MemberVm } from './vms/member-vm.ts';
import { ProxySupervisor } from './vms/proxy-supervisor.ts';

/** Each takes the host's memory of a VM that is loaded by stream. */
const PROOFS_AT_ONCE = 2;

interface Member {
  readonly config: MemberConfig;
  readonly vm: MemberVm;
  readonly keeper: ProxySupervisor;
}

/** The agent of one cluster on this host. */
export class LocalAgent implements Agent {
  readonly #config: ClusterConfig;
  readonly #catalogue: Catalogue;
  readonly #log: Logger;
  readonly #held = new RoundsInUse();
  readonly #members: ReadonlyMap<string, Member>;
  readonly #admission: RoundAdmission;
  readonly #store: ShadowStore;
  readonly #durable: DurableTier;
  readonly #restores: Restores;
  /** VMs as they were when the last round was admitted, by member. */
  #examined: ReadonlyMap<string, ExaminedVm> = new Map();
  #listener: (notice: AgentNotice) => void = () => {};

  constructor(config: ClusterConfig, catalogue: Catalogue, log: Logger) {
    this.#config = config;
    this.#catalogue = catalogue;
    this.#log = log;
    const held = this.#held;
    this.#admission = new RoundAdmission(config, catalogue);
    this.#store = new ShadowStore(config, catalogue, held, log);
    this.#durable = new DurableTier(config, held);
    this.#restores = new Restores(config, log);
    const watcher = {
      onNotice: (notice: AgentNotice) => this.#listener(notice),
      onLeft: (round: string) => held.release(round),
    };
    this.#members = new Map(
      config.members.map((member) => {
        const vm = new MemberVm(config.cluster, member);
        return [
          member.name,
          { config: member, vm, keeper: new ProxySupervisor(member, watcher, log) },
        ];
      }),
    );
  }

  get members(): readonly string[] {
    return [...this.#members.keys()];
  }

  /** Starts the proxies, and repairs what an earlier life of the agent has left. */
  async start(): Promise<void> {
    await this.#store.open();
    await this.#restores.undoCutShort();
    await this.#all(async ({ config, keeper }) => {
      makeOwnFolder(config.directory);
      await endProofsCutShort(config.directory);
      await keeper.start();
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#durable.close(), this.#all(({ keeper }) => keeper.close())]);
  }

  onNotice(listener: (notice: AgentNotice) => void): void {
    this.#listener = listener;
  }

  status(): Promise<MemberStatus[]> {
    return this.#all(async ({ config, vm: { recorded, running }, keeper }) => {
      const { proxy } = keeper;
      const probed = await keeper.probe();
      const { qemuVersion } = probed;
      const asks = running !== undefined && qemuVersion !== '';
      return {
        member: config.name,
        ...probed,
        note: asks ? await replacedProgram(running, qemuVersion) : undefined,
        pid: running?.pid,
        proxyPid: proxy?.isGone === false ? proxy.pid : undefined,
        owned: recorded?.owned ?? false,
      };
    });
  }

  /** Starts the VMs of members that have a command and were never started. @returns their names */
  async boot(): Promise<string[]> {
    const started: string[] = [];
    await this.#all(async ({ config, vm }) => {
      if (await vm.boot()) started.push(config.name);
    });
    return started;
  }

  async admit(): Promise<Admission> {
    await this.#all(({ vm }) => vm.locate());
    await this.#all(({ vm }) => vm.describe());
    const examined = await this.#all((member) => this.#examine(member));
    this.#examined = new Map(examined.map(({ member, examined: vm }) => [member.name, vm]));
    await this.#requireRestorable(examined);
    await this.#all((member) => this.#keepProgram(member));
    const sizes = new Map(
      examined.map(({ member, examined: { ...sizes } }) => [member.name, sizes]),
    );
    const admission = await this.#admission.admit(sizes, this.#vmPids());
    await fillMappedHoles(this.#vmPids());
    return admission;
  }

  beginRound(round: string): Promise<void> {
    return this.#store.beginRound(round);
  }

  endRound(round: string): void {
    this.#store.endRound(round);
  }

  prepare(round: string, name: string, settings: RoundSettings): void {
    const { config, vm, keeper } = this.#member(name);
    const { recorded } = vm;
    const plan = this.#admission.planOf(name);
    const { base, parent, admittedBytes = 0, moreBytes = 0 } = plan ?? {};
    const { headroomBytes } = this.#config.store;
    keeper.prepare({
      type: 'prepare',
      round,
      shadowDirectory: this.#store.shadowDirectory(round, name),
      spareDirectory: spareDirectory(this.#config.shadowsDirectory),
      staging: { base, parent, admittedBytes, moreBytes, headroomBytes },
      examined: this.#examinedVm(name),
      commandLine: recorded?.commandLine ?? config.command ?? [],
      workingDirectory: recorded?.workingDirectory ?? config.workingDirectory,
      domainXml: vm.domainXml,
      vm: recorded && { pid: recorded.pid, startTime: recorded.startTime },
      hugePages: this.#config.round.hugePages,
      compareEmulated: this.#config.round.compareEmulated,
      keepFreeBytes: headroomBytes + this.#admission.neededBytes,
      diskOwner: vm.diskOwner,
      ...settings,
    });
  }

  command(round: string, name: string, type: AgentCommand): void {
    this.#member(name).keeper.command(round, type);
  }

  alive(silenceMs: number): void {
    for (const { keeper } of this.#members.values()) keeper.alive(silenceMs);
  }

  collect(how: 'recycle' | 'free'): Promise<readonly string[]> {
    return this.#store.collect(how);
  }

  async reclaimHoles(): Promise<void> {
    const bytes = await reclaimMappedHoles(this.#vmPids(), (round) => this.#held.has(round));
    if (bytes > 0) this.#log.info({ bytes }, 'holes of mapped images given back');
  }

  async tidyDisks(epochs: readonly EpochManifest[]): Promise<void> {
    if (this.#config.round.disks === 'leave') return;
    await this.#all(async ({ config: { name: member }, vm, keeper: { proxy } }) => {
      if (proxy === undefined) return;
      const removed = await vm.tidyLayers(epochs, proxy);
      if (removed.length > 0) this.#log.info({ member, removed }, 'layers of disks removed');
    });
  }

  deltaShare(epoch: EpochManifest): Promise<number> {
    return this.#store.deltaShare(epoch);
  }

  beginFold(epoch: EpochManifest, round: string, signal: AbortSignal): Promise<FoldUnderWay> {
    return this.#store.beginFold(epoch, round, this.#admission, signal);
  }

  verify(epoch: EpochManifest, mode: 'changed' | 'all'): Promise<void> {
    return this.#store.verify(epoch, mode);
  }

  async alivePids(): Promise<ReadonlyMap<string, number>> {
    const found = await this.#all(async ({ config, vm }) => {
      return [config.name, await vm.live()] as const;
    });
    return new Map(found.flatMap(([name, vm]) => (vm === undefined ? [] : [[name, vm.pid]])));
  }

  async untrack(name: string): Promise<boolean> {
    const { vm, keeper } = this.#member(name);
    const { running } = vm;
    if (running === undefined) return false;
    const { pid, startTime } = running;
    const request = { type: 'untrack', vm: { pid, startTime } } as const;
    return (await keeper.requireProxy().request(request)).wasTracked;
  }

  async killVm(name: string): Promise<void> {
    await this.#member(name).vm.kill();
  }

  persist(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<PersistResult> {
    return this.#durable.persist(epoch, onProgress);
  }

  endPersist(): void {
    this.#durable.endPersist();
  }

  durable(request: DurableRequest): Promise<DurableList> {
    return this.#durable.ask(request);
  }

  durableSilentMs(): number | undefined {
    return this.#durable.silentMs;
  }

  async fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: PersistProgress) => void,
  ): Promise<number> {
    this.#store.beginFetch();
    try {
      return await this.#durable.fetch(epoch, trust, onProgress);
    } catch (error) {
      await this.collect('free'); // shadows that have come whole are removed when the fetch ends
      throw error;
    }
  }

  endFetch(): void {
    this.#store.endFetch();
  }

  verifyDurable(epoch: EpochManifest): Promise<void> {
    return this.#durable.verify(epoch);
  }

  planRestore(epoch: EpochManifest, choices: RestoreChoices): Promise<RestorePlan[]> {
    return planRestore(this.#config, epoch, choices);
  }

  async prove(epoch: EpochManifest): Promise<MemberProven[]> {
    const plans = await planRestore(this.#config, epoch, { mode: 'auto', qemu: 'installed' });
    const limit = pLimit(PROOFS_AT_ONCE);
    return allOrFirstFailure(
      plans.map((plan) =>
        limit(() => proveMember(plan, this.#member(plan.member).config.directory, this.#log)),
      ),
    );
  }

  async rehearse(plans: readonly RestorePlan[]): Promise<void> {
    const limit = pLimit(PROOFS_AT_ONCE);
    const others = plans.filter(({ note }) => note !== undefined);
    await allOrFirstFailure(
      others.map((plan) =>
        limit(() => proveMember(plan, this.#member(plan.member).config.directory, this.#log)),
      ),
    );
  }

  cloneOf(origin: CloneOrigin): RestoringAgent {
    const store = new ShadowStore(origin.source, this.#catalogue, new RoundsInUse(), this.#log);
    const source = {
      verify: store.verify.bind(store),
      planRestore: planRestore.bind(undefined, origin.source),
    };
    return cloningAgent(this, source, origin, this.#config);
  }

  relayed(origin: RelayedOrigin): RestoringAgent {
    const shadowsDirectory = clusterFolder(origin.store, 'shadows');
    const place = { ...this.#config, shadowsDirectory };
    const store = new ShadowStore(place, this.#catalogue, new RoundsInUse(), this.#log);
    return relayedAgent(this, store.verify.bind(store), origin, this.#config);
  }

  async beginRestore(): Promise<void> {
    this.#restores.begin();
  }

  load(plan: RestorePlan): Promise<MemberRestored> {
    return this.#restores.load(plan, this.#member(plan.member).keeper.requireProxy());
  }

  endRestore(how: 'done' | 'undo'): Promise<void> {
    return this.#restores.end(how);
  }

  async resume(name: string): Promise<number> {
    const proxy = this.#member(name).keeper.requireProxy();
    const { resumedAtUs } = await proxy.request({ type: 'resume' });
    return resumedAtUs;
  }

  catchUpClock(name: string): Promise<ClockResult> {
    const { config, vm, keeper } = this.#member(name);
    const workingDirectory = vm.recorded?.workingDirectory ?? config.workingDirectory;
    return keeper.requireProxy().request({ type: 'catch-up-clock', workingDirectory });
  }

  #examinedVm(name: string): ExaminedVm {
    const { machine, disks, writers } = this.#examined.get(name) ?? {};
    if (machine && disks && writers) return { machine, disks, writers };
    throw new Error(`${name} was not examined: no round was admitted`);
  }

  async #examine({ config, vm, keeper }: Member) {
    const { recorded } = vm;
    const workingDirectory = recorded?.workingDirectory ?? config.workingDirectory;
    const request = { type: 'examine', workingDirectory } as const;
    const examined = await keeper.requireProxy().request(request);
    return { member: config, vm: recorded, examined };
  }

  /** Keeps the QEMU that a VM runs on, for `restore --qemu recorded`. */
  async #keepProgram({ config: { name, libvirt }, vm: { running } }: Member): Promise<void> {
    if (libvirt !== undefined || running === undefined) return;
    try {
      keepProgram(running, this.#config.directory);
    } catch (err) {
      this.#log.warn({ member: name, err }, 'the QEMU that it runs on could not be kept');
    }
  }

  /** @throws UmbraError why an epoch of these VMs could not be restored */
  async #requireRestorable(
    examined: readonly (Omit<FoundVm, 'vm'> & { vm: FoundVm['vm'] | undefined })[],
  ): Promise<void> {
    const vms = examined.flatMap(({ vm, ...rest }) => (vm === undefined ? [] : [{ vm, ...rest }]));
    const { disks } = this.#config.round;
    const obstacles = await Promise.all(vms.map((found) => restoreObstacles(found, disks)));
    const [first] = obstacles.flat();
    if (first !== undefined) throw UmbraError.received(first);
    requireOwnDisks(vms);
  }

  #vmPids(): number[] {
    return [...this.#members.values()].flatMap(({ vm }) => vm.running?.pid ?? []);
  }

  #all<T>(work: (member: Member) => Promise<T>): Promise<T[]> {
    return Promise.all([...this.#members.values()].map(work));
  }

  #member(name: string): Member {
    const member = this.#members.get(name);
    if (member !== undefined) return member;
    const message = `there is no member ${name} in this cluster`;
    throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, member: name });
  }
}
