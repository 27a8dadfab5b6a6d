/**
 * Measures large clusters, in simulated rounds with the real coordinator's code:
 *
 *     skew_ms_1000, _5000          first to last stop of a round, in virtual time
 *     cpu_ratio_5000_over_1000     CPU time of the coordinator's code; 5 would be linear
 *
 * CPU time is that of the round machine and the live phase alone. They run again on the recorded
 * input of the simulated round, without network, serialisation and VMs.
 */
import { LivePhase, NO_CALIBRATION } from '../../policies/index.ts';
import { COMMITTED } from '../../proxy/coordinator/rounds/round.ts';
import {
  namesOf,
  policyOf,
  Recording,
  repeatedCluster,
  type SimulationOptions,
  simulate,
} from '../sim/index.ts';
import type { Measurement, Row } from './bench.ts';
import { type Spread, spread } from './statistics.ts';

const SIZES = [1, 10, 100, 1_000, 5_000] as const;
const SEEDS = [1, 2, 3, 4, 5] as const;
const REPLAYS = 3;

interface Round {
  readonly skewMs: number;
  readonly cpuMs: number;
}

export async function benchScale(progress: (line: string) => void): Promise<Measurement> {
  progress('warming up');
  for (const seed of SEEDS) measure(100, seed);
  const rounds = new Map<number, readonly Round[]>();
  for (const size of SIZES) {
    progress(`${size} members, ${SEEDS.length} rounds`);
    rounds.set(
      size,
      SEEDS.map((seed) => measure(size, seed)),
    );
  }
  const of = (size: number, figure: (round: Round) => number): Spread => {
    return spread((rounds.get(size) ?? []).map(figure));
  };
  const cpu = (size: number) => of(size, ({ cpuMs }) => cpuMs);
  const skew = (size: number) => of(size, ({ skewMs }) => skewMs);
  const rows = SIZES.flatMap((size): Row[] => {
    const members = size === 1 ? '1 member' : `${size} members`;
    const each = of(size, ({ cpuMs }) => (cpuMs * 1000) / size);
    return [
      { what: `stop skew, ${members}`, unit: 'virtual ms', spread: skew(size) },
      { what: `coordinator CPU a round, ${members}`, unit: 'ms', spread: cpu(size) },
      { what: `coordinator CPU a member, ${members}`, unit: 'µs', spread: each },
    ];
  });
  return {
    figures: {
      skew_ms_1000: skew(1_000).median,
      skew_ms_5000: skew(5_000).median,
      cpu_ratio_5000_over_1000: cpu(5_000).median / cpu(1_000).median,
    },
    rows,
  };
}

function measure(members: number, seed: number): Round {
  const cluster = repeatedCluster(seed, members);
  const recording = new Recording(namesOf(cluster));
  const options: SimulationOptions = {
    seed,
    cluster,
    endWhen: [{ kind: 'all-first-pass' }],
    // The default but for the slots: each host has its own bandwidth, whatever the cluster's size.
    multiplexing: { kind: 'finish-together', slotMs: 100, atOnce: Math.ceil(members / 4) },
    note: (call) => recording.add(call),
  };
  const { skewMs } = simulate(options);
  const times = Array.from({ length: REPLAYS }, () => cpuOf(options, recording));
  return { skewMs, cpuMs: spread(times).median };
}

/** Returns the CPU time of this process, milliseconds; other processes do not count. */
function cpuOf(options: SimulationOptions, recording: Recording): number {
  const before = process.cpuUsage();
  const live = new LivePhase(namesOf(options.cluster), policyOf(options), NO_CALIBRATION);
  const { state } = recording.replay(live);
  const { user, system } = process.cpuUsage(before);
  if (state !== COMMITTED) throw new Error('the round did not end as it did in the simulation');
  return (user + system) / 1000;
}
