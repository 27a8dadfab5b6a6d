/**
 * The baseline without Umbra: QEMU's own precopy with its defaults, one VM after the other or all
 * at once, into `exec:cat >/dev/null`, as no store could be faster.
 *
 * For a consistent set, a VM that has been migrated stays stopped until the last one has been; then
 * all resume. Cluster downtime is from the first STOP to the last RESUME, as for Umbra. The
 * downtime of each VM's own migration, by QEMU's count (`downtime`), is measured as well.
 */
import { join } from 'node:path';
import { QmpClient } from '../../qmp/index.ts';
import type { Testbed } from '../testbed/testbed.ts';

/** QEMU's defaults since 5.2 (migration/options.c). */
const DEFAULTS = { 'max-bandwidth': 128 * 2 ** 20, 'downtime-limit': 300 };
const LIMIT_MS = 600_000;
const SINK = 'exec:cat >/dev/null';

export interface QemuPrecopy {
  /** Time from the first STOP to the last RESUME, milliseconds, by QEMU's own time stamps. */
  readonly clusterDowntimeMs: number;
  /** Longest downtime of a single VM's own migration, milliseconds. */
  readonly worstOwnMs: number;
  /** Time from the first command to the end of the last migration, milliseconds. */
  readonly latencyMs: number;
  readonly bytes: number;
}

export class QemuMigrations {
  readonly #monitors: readonly QmpClient[];

  static async open(bed: Testbed): Promise<QemuMigrations> {
    const monitors = await Promise.all(
      Array.from({ length: bed.nodes }, (_, node) =>
        QmpClient.connect(join(bed.memberDirectory(node), 'watch.sock')),
      ),
    );
    return new QemuMigrations(monitors);
  }

  private constructor(monitors: readonly QmpClient[]) {
    this.#monitors = monitors;
  }

  close(): void {
    for (const monitor of this.#monitors) monitor.close();
  }

  /** Migrates all VMs. @throws Error if a VM does not converge within two minutes */
  async run(how: 'one after the other' | 'all at once'): Promise<QemuPrecopy> {
    const stops: number[] = [];
    const resumes: number[] = [];
    const unsubscribes = this.#monitors.map((monitor) =>
      monitor.onEvent(({ name, timestampUs }) => {
        if (name === 'STOP') stops.push(timestampUs);
        if (name === 'RESUME') resumes.push(timestampUs);
      }),
    );
    try {
      const startedAt = performance.now();
      const ended: Migrated[] = [];
      if (how === 'all at once') ended.push(...(await Promise.all(this.#monitors.map(migrate))));
      else for (const monitor of this.#monitors) ended.push(await migrate(monitor));
      const latencyMs = performance.now() - startedAt;
      await Promise.all(this.#monitors.map(resume));
      return {
        clusterDowntimeMs: (Math.max(...resumes) - Math.min(...stops)) / 1000,
        worstOwnMs: Math.max(...ended.map(({ downtimeMs }) => downtimeMs)),
        latencyMs,
        bytes: ended.reduce((sum, { bytes }) => sum + bytes, 0),
      };
    } finally {
      for (const unsubscribe of unsubscribes) unsubscribe();
    }
  }
}

interface Migrated {
  readonly downtimeMs: number;
  readonly bytes: number;
}

async function migrate(monitor: QmpClient): Promise<Migrated> {
  await monitor.execute('migrate-set-capabilities', {
    capabilities: [{ capability: 'events', state: true }],
  });
  await monitor.execute('migrate-set-parameters', DEFAULTS);
  let timer: NodeJS.Timeout | undefined;
  const ended = new Promise<string>((resolve, reject) => {
    timer = setTimeout(() => reject(new Error('QEMU did not converge')), LIMIT_MS);
    const unsubscribe = monitor.onEvent(({ name, data }) => {
      if (name !== 'MIGRATION' || !/completed|failed/.test(String(data.status))) return;
      unsubscribe();
      resolve(String(data.status));
    });
  });
  try {
    await monitor.execute('migrate', { uri: SINK });
    if ((await ended) !== 'completed') throw new Error('a migration to /dev/null failed');
  } finally {
    clearTimeout(timer);
  }
  const { ram, downtime = 0 } = await monitor.execute('query-migrate');
  return { downtimeMs: downtime, bytes: ram?.transferred ?? 0 };
}

/** Resumes a VM. Right after a migration QEMU may refuse for a moment ("not finalized yet"). */
async function resume(monitor: QmpClient): Promise<void> {
  while (!(await monitor.execute('query-status')).running) {
    await monitor.execute('cont').catch(() => {});
  }
}
