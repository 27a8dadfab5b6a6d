/** Answers the agent's requests outside of a round. */
import { QmpClient, QmpError } from '../../qmp/index.ts';
import { domainUuid, virsh } from '../../qmp/libvirt/index.ts';
import { UmbraError } from '../failure/failure.ts';
import { faultPoint, type LOAD_STEPS } from '../failure/fault-point.ts';
import { memberFile } from '../host/folders.ts';
import type { KnownProcess } from '../host/known-process.ts';
import { connectWhenThere } from '../host/when-there.ts';
import type {
  ClockResult,
  DomainLoaded,
  DomainPlan,
  ExamineResult,
  LoadResult,
  MemberLocation,
  MemberRequest,
  ProbeResult,
  RestoreMode,
  ResumeResult,
} from '../protocol/member.ts';
import { catchUp } from './guest-agent/clock.ts';
import { withGuestAgent } from './guest-agent/reach.ts';
import { mergeLayers } from './qemu/disks.ts';
import { examineVm } from './qemu/machine.ts';
import { ramBlocks } from './qemu/memory.ts';
import { requireReady } from './qemu/readiness.ts';
import { makeRun } from './qemu/run-state.ts';
import { Journal } from './repair/journal.ts';
import { repairVm } from './repair/repair.ts';
import { loadDomain } from './restore/domain-load.ts';
import {
  awaitLoaded,
  encodeAhead,
  feedShadow,
  LOAD_DEADLINE_MS,
  loadFailed,
  readyLoad,
} from './restore/load.ts';
import { endTracking } from './tracking/tracking.ts';

const PROBE_TIMEOUT_MS = 2_000;
/** A QEMU just started needs a moment to make its sockets; more under load. */
const START_DEADLINE_MS = 20_000;
const RESUME_DEADLINE_MS = 10_000;
/** Limit of each answer of a guest agent, whose VM has just begun to run. */
const AGENT_LIMIT_MS = 10_000;
const REPAIR_LIMIT_MS = 60_000;

export class Requests {
  readonly #location: MemberLocation;
  /** Kept from `load` to `resume`, so that the barrier costs no connection. */
  #loaded: QmpClient | undefined;
  /** Ends a load that is given up: the next one must not find it at its sockets. */
  #loading = new AbortController();

  constructor(location: MemberLocation) {
    this.#location = location;
  }

  answer(request: MemberRequest): Promise<unknown> {
    switch (request.type) {
      case 'probe':
        return this.#probe();
      case 'examine':
        return this.#with((qmp) => this.#examine(qmp, request.workingDirectory));
      case 'load':
        return this.#load(request.shadowDirectory, request.mode);
      case 'load-domain':
        return this.#loadDomain(request.shadowDirectory, request.plan);
      case 'resume':
        return this.#resume();
      case 'catch-up-clock':
        return this.#catchUpClock(request.workingDirectory);
      case 'merge-layers': {
        const { workingDirectory, owner, needed } = request;
        return this.#with(async (qmp) => {
          return { files: await mergeLayers(qmp, workingDirectory, owner, new Set(needed)) };
        });
      }
      case 'untrack':
        return this.#untrack(request.vm);
      case 'repair':
        return this.#repair();
    }
  }

  close(): void {
    this.#loading.abort(new UmbraError({ code: 'E_LOAD_FAILED', message: 'the load was ended' }));
    this.#loading = new AbortController();
    this.#loaded?.close();
    this.#loaded = undefined;
  }

  async #probe(): Promise<ProbeResult> {
    try {
      return await this.#with(async (qmp) => {
        const { status, running } = await qmp.execute('query-status');
        return { status, running, qemuVersion: versionOf(qmp) };
      }, PROBE_TIMEOUT_MS);
    } catch (error) {
      const gone = error instanceof QmpError && GONE.has(error.code);
      if (gone) return { status: 'gone', running: false, qemuVersion: '' };
      throw error;
    }
  }

  async #examine(qmp: QmpClient, workingDirectory: string): Promise<ExamineResult> {
    await requireReady(qmp);
    const blocks = await ramBlocks(qmp);
    const blockBytes = blocks.map(({ length }) => length);
    const shadowBytes = blockBytes.reduce((sum, bytes) => sum + bytes, 0);
    const vm = await examineVm(qmp, workingDirectory);
    return { shadowBytes, blockBytes, qemuVersion: versionOf(qmp), ...vm };
  }

  async #load(shadowDirectory: string, mode: RestoreMode): Promise<LoadResult> {
    this.close();
    const loading = this.#loading;
    const { signal } = loading;
    // A load that was given up fails late: by then another may be under way, which it must not end.
    const fail = (error: unknown): never => {
      if (this.#loading === loading) this.close();
      throw error;
    };
    const path = memberFile(this.#location.directory, 'incoming');
    const listening = connectWhenThere(path, START_DEADLINE_MS, signal);
    listening.catch(() => {}); // it may fail before it is awaited
    const ready = await readyLoad(shadowDirectory, mode).catch(fail);
    try {
      const chunks = await encodeAhead(ready);
      const socket = await listening;
      try {
        const monitor = this.#awaitLoaded(signal);
        monitor.catch(() => {});
        this.#faultPoint('loading');
        const bytes = await feedShadow(socket, chunks);
        await monitor;
        return { bytes };
      } finally {
        socket.destroy();
      }
    } catch (error) {
      return fail(error);
    } finally {
      ready.ram.close();
    }
  }

  async #loadDomain(shadowDirectory: string, plan: DomainPlan): Promise<DomainLoaded> {
    this.close();
    const { libvirt: location, directory, qmp, member } = this.#location;
    if (location === undefined) throw new Error(`${member} is no domain`);
    const { signal } = this.#loading;
    const loaded = await loadDomain({ domain: location, plan, shadowDirectory, directory, signal });
    try {
      this.#loaded = await QmpClient.connect(qmp);
      return loaded;
    } catch (error) {
      const destroy = async () => virsh(location.uri, ['destroy', await domainUuid(location)]);
      await destroy().catch(() => {}); // it is gone already
      throw error;
    }
  }

  /** Waits for the load. QEMU makes its monitor before its machine: it answers once it loads. */
  async #awaitLoaded(signal: AbortSignal): Promise<void> {
    const options = { timeoutMs: LOAD_DEADLINE_MS, signal };
    const qmp = await QmpClient.connect(this.#location.qmp, options).catch(loadFailed);
    this.#loaded = qmp;
    await awaitLoaded(qmp);
  }

  async #resume(): Promise<ResumeResult> {
    const qmp = this.#loaded;
    if (qmp === undefined) {
      throw new UmbraError({ code: 'E_NOT_LOADED', message: 'nothing was loaded to be resumed' });
    }
    const resumed = new Promise<number>((resolve) => {
      qmp.onEvent(({ name, timestampUs }) => {
        if (name === 'RESUME') resolve(timestampUs);
      });
    });
    this.#faultPoint('resuming');
    try {
      // The VM is known to be stopped, so `cont` is sent at once. makeRun repeats it if QEMU
      // refuses it for a moment. Its answer comes after that of `cont`: the VM has survived it.
      const cont = qmp.execute('cont').catch(() => {});
      await makeRun(qmp, RESUME_DEADLINE_MS);
      await cont;
      return { resumedAtUs: await resumed };
    } finally {
      this.close();
    }
  }

  #catchUpClock(workingDirectory: string): Promise<ClockResult> {
    const { libvirt, qmp } = this.#location;
    const monitor = () => QmpClient.connect(qmp, { timeoutMs: AGENT_LIMIT_MS });
    return withGuestAgent({ libvirt, workingDirectory, monitor }, AGENT_LIMIT_MS, (agent) =>
      catchUp(agent, Date.now),
    );
  }

  #faultPoint(step: (typeof LOAD_STEPS)[number]): void {
    faultPoint(`restore/${this.#location.member}/${step}`);
  }

  /** Ends the tracking of the VM. The next round that may track it begins anew. */
  async #untrack(vm: KnownProcess): Promise<{ wasTracked: boolean }> {
    const { directory, member } = this.#location;
    return { wasTracked: endTracking({ vm, directory, member }) };
  }

  /** Repairs the VM. Without a journal it is not touched: it is as its operator wants it. */
  async #repair(): Promise<{ repaired: boolean }> {
    const journal = new Journal(this.#location.directory);
    return { repaired: await repairVm(this.#location.qmp, journal, REPAIR_LIMIT_MS) };
  }

  async #with<T>(use: (qmp: QmpClient) => Promise<T>, timeoutMs?: number): Promise<T> {
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    const qmp = await QmpClient.connect(this.#location.qmp, options);
    try {
      return await use(qmp);
    } finally {
      qmp.close();
    }
  }
}

const GONE: ReadonlySet<string> = new Set(['E_QMP_CONNECT', 'E_QMP_CLOSED']);

function versionOf(qmp: QmpClient): string {
  const { major, minor, micro } = qmp.version;
  return `${major}.${minor}.${micro}`;
}
