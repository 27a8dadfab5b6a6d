/** Freezes processes of a testbed at a named place, and watches what its VMs do meanwhile. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient } from '../../qmp/index.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';

/** Testbed, or a part of one, with processes that can be frozen. */
export type Freezable = Pick<Testbed, 'stopAt' | 'processes'>;

const POLL_MS = 5;
const FREEZE_LIMIT_MS = 300_000;

/** Asks the processes of the testbed to freeze at `place` (proxy/failure/fault-point.ts). */
export function freezeAt(bed: Freezable, location: string): void {
  writeFileSync(bed.stopAt, `${location}\n`);
}

/** Waits until a process of the testbed is frozen. @returns its pid */
export async function frozenProcess(
  bed: Freezable,
  limitMs: number = FREEZE_LIMIT_MS,
): Promise<number> {
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    for (const pid of bed.processes().keys()) {
      if (stateOf(pid) === 'T') {
        rmSync(bed.stopAt, { force: true });
        return pid;
      }
    }
    await delay(POLL_MS);
  }
  throw new Error('nothing froze');
}

function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  } catch {
    return '';
  }
}

/** Record of one VM's STOP and RESUME events, from a monitor of the test's own. */
export class VmWatch {
  readonly #client: QmpClient;
  readonly #stopped: [fromUs: number, toUs: number | undefined][] = [];

  static async open(bed: Testbed, node: number): Promise<VmWatch> {
    const path = join(bed.memberDirectory(node), 'watch.sock');
    return new VmWatch(await QmpClient.connect(path));
  }

  private constructor(client: QmpClient) {
    this.#client = client;
    client.onEvent(({ name, timestampUs }) => {
      const last = this.#stopped.at(-1);
      if (name === 'STOP') this.#stopped.push([timestampUs, undefined]);
      if (name === 'RESUME' && last !== undefined) last[1] ??= timestampUs;
    });
  }

  /** Waits until no filter of Umbra holds the guest's frames. */
  async silentNoMore(limitMs: number): Promise<void> {
    const info = { 'command-line': 'info network' };
    for (const end = performance.now() + limitMs; ; ) {
      const text = await this.#client.execute('human-monitor-command', info);
      if (!text.includes('filter-buffer')) return;
      if (performance.now() > end) throw new Error(`still held: ${text}`);
    }
  }

  async isRunning(): Promise<boolean> {
    return (await this.#client.execute('query-status')).running;
  }

  /** Waits until the VM runs. */
  async running(limitMs: number): Promise<void> {
    for (const end = performance.now() + limitMs; ; ) {
      if (await this.isRunning()) return;
      if (performance.now() > end) throw new Error(`the VM still stands after ${limitMs} ms`);
      await delay(POLL_MS);
    }
  }

  /** Waits until it has stopped, and unless `still`, runs again. @throws Error after `limitMs` */
  async stood(limitMs: number, still = false): Promise<void> {
    for (const end = performance.now() + limitMs; ; ) {
      const last = this.#stopped.at(-1);
      if (last !== undefined && (still || last[1] !== undefined)) return;
      if (performance.now() > end) throw new Error(`the VM has not stood in ${limitMs} ms`);
      await delay(POLL_MS);
    }
  }

  /** Waits until the VM is not stopped, by QEMU's events; for a limited time. */
  async settled(limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    while (this.longestStopMs === Number.POSITIVE_INFINITY && performance.now() < end) {
      await delay(POLL_MS);
    }
  }

  /** Returns the VM's longest stop, milliseconds; Infinity while it is stopped. */
  get longestStopMs(): number {
    const lengths = this.#stopped.map(
      ([from, to]) => ((to ?? Number.POSITIVE_INFINITY) - from) / 1000,
    );
    return Math.max(0, ...lengths);
  }

  close(): void {
    this.#client.close();
  }
}
