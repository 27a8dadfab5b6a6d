/**
 * Measures the cost of a relay: the same VM migrates to another QEMU on this machine, unthrottled,
 * in turn
 *
 *     directly
 *     through socat by default (8 KiB at a time), and with buffers of 1 MiB
 *     through umbra relay
 *     through umbra relay --shadow
 *
 *     relay_vs_socat          throughput of umbra relay ÷ that of socat, within a turn
 *     shadow_relay_vs_socat   the same of umbra relay --shadow
 *
 * Throughput is by QEMU's own count: bytes transferred ÷ total time. The first way of a turn runs
 * with cold caches: the order changes from turn to turn, and the first turn does not count.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseClusterConfig } from '../../proxy/config/config.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { RelayProcess } from '../testbed/relay-process.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { migrateInto } from './qemu-migrate.ts';
import { spread } from './statistics.ts';

const RUNS = 5;
const GUEST_MIB = 1536;
const FILL_MIB = 1024;
const START_LIMIT_MS = 120_000;
const RETRY_MS = 20;

const WAYS = ['direct', 'socat', 'socat 1 MiB', 'relay', 'shadow relay'] as const;
type Way = (typeof WAYS)[number];

/** Bytes per second of each way. */
type Turn = Readonly<Record<Way, number>>;

export async function benchRelay(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const qemu = await newestQemu();
  const bed = await Testbed.create({ nodes: 1, memoryMiB: GUEST_MIB, watch: true, qemu });
  try {
    progress(`a VM of ${GUEST_MIB} MiB, ${FILL_MIB} MiB of it in use`);
    await bed.up();
    await bed.dirty(0, { sizeMiB: FILL_MIB, rateMiB: 2, pattern: 'random' });
    const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
    const capabilities = [{ capability: 'return-path', state: true }];
    await monitor.execute('migrate-set-capabilities', { capabilities });
    const turns: Turn[] = [];
    for (let run = 0; run <= runs; run++) {
      progress(run === 0 ? 'warm-up' : `turn ${run} of ${runs}`);
      const turn = await takeTurn(bed, monitor, run);
      if (run > 0) turns.push(turn);
    }
    monitor.close();
    return measured(turns);
  } finally {
    await bed.dispose();
  }
}

async function takeTurn(bed: Testbed, monitor: QmpClient, run: number): Promise<Turn> {
  const order = [...WAYS.slice(run % WAYS.length), ...WAYS.slice(0, run % WAYS.length)];
  const rates = new Map<Way, number>();
  for (const way of order) rates.set(way, await migrate(bed, monitor, way));
  return Object.fromEntries(rates) as Turn;
}

async function migrate(bed: Testbed, monitor: QmpClient, way: Way): Promise<number> {
  const destination = await Destination.start(bed);
  const between = await start(way, destination.port, join(bed.home, 'kept'));
  try {
    const { bytes, totalMs } = await migrateInto(monitor, `tcp:127.0.0.1:${between.port}`);
    return (bytes / totalMs) * 1000;
  } finally {
    await between.end();
    await destination.end();
  }
}

interface Between {
  readonly port: number;
  end(): Promise<void>;
}

async function start(way: Way, to: number, store: string): Promise<Between> {
  if (way === 'direct') return { port: to, end: async () => {} };
  const port = await freePort();
  if (way === 'socat' || way === 'socat 1 MiB') {
    const listen = `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr`;
    const buffers = way === 'socat' ? [] : ['-b', String(2 ** 20)];
    const args = ['-d', '-d', ...buffers, listen, `TCP:127.0.0.1:${to}`];
    const child = spawn('socat', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    if (child.stderr === null) throw new Error('its notices are piped');
    await once(child.stderr, 'data'); // "listening on …"
    child.stderr.resume();
    return { port, end: () => end(child) };
  }
  const kept = way === 'relay' ? [] : ['--shadow', store, '--keep', '1'];
  const addresses = ['--listen', `tcp://127.0.0.1:${port}`, '--to', `tcp://127.0.0.1:${to}`];
  const relay = await RelayProcess.start(...addresses, ...kept);
  return {
    port,
    async end() {
      const [report] = await relay.reports(1);
      await relay.kill();
      if (report?.outcome !== 'completed' || (kept.length > 0 && !report.shadow?.kept)) {
        throw new Error(`the relay reports ${JSON.stringify(report)}`);
      }
    },
  };
}

/** A QEMU like the source's, which waits for the migration. */
class Destination {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #directory: string;

  static async start(bed: Testbed): Promise<Destination> {
    const directory = join(bed.home, 'destination');
    mkdirSync(directory);
    const [member] = parseClusterConfig(readFileSync(bed.file, 'utf8'), bed.file, bed.home).members;
    const [program = '', ...words] = (member?.command ?? []).map((word) => {
      return word.replaceAll(member?.directory ?? '', directory);
    });
    const port = await freePort();
    const incoming = ['-S', '-incoming', `tcp:127.0.0.1:${port}`];
    const env = { ...process.env, UMBRA_HOME: bed.home };
    const child = spawn(program, [...words, ...incoming], { env, stdio: 'ignore' });
    const destination = new Destination(child, port, directory);
    try {
      await destination.#answers();
      return destination;
    } catch (error) {
      await destination.end();
      throw error;
    }
  }

  private constructor(child: ChildProcess, port: number, directory: string) {
    this.#child = child;
    this.port = port;
    this.#directory = directory;
  }

  async end(): Promise<void> {
    await end(this.#child);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Waits until the monitor answers; QEMU then listens for the migration. */
  async #answers(): Promise<void> {
    const limit = performance.now() + START_LIMIT_MS;
    for (;;) {
      try {
        (await QmpClient.connect(join(this.#directory, 'qmp.sock'))).close();
        return;
      } catch (error) {
        if (performance.now() > limit) throw error;
        await delay(RETRY_MS);
      }
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function freePort(): Promise<number> {
  const server = createServer().listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

function measured(turns: readonly Turn[]): Measurement {
  const ratio = (way: Way, to: Way) => spread(turns.map((turn) => turn[way] / turn[to]));
  const rates = WAYS.map((way): Row => {
    return { what: way, unit: 'MB/s', spread: spread(turns.map((turn) => turn[way] / 1e6)) };
  });
  const ratios = (['relay', 'shadow relay'] as const).flatMap((way): Row[] => [
    { what: `${way} ÷ socat`, unit: '', spread: ratio(way, 'socat') },
    { what: `${way} ÷ socat 1 MiB`, unit: '', spread: ratio(way, 'socat 1 MiB') },
    { what: `${way} ÷ direct`, unit: '', spread: ratio(way, 'direct') },
  ]);
  return {
    figures: {
      relay_vs_socat: ratio('relay', 'socat').median,
      shadow_relay_vs_socat: ratio('shadow relay', 'socat').median,
    },
    rows: [...rates, ...ratios],
  };
}
