/** Clusters to simulate: seeded random ones, and a few that stay the same. */
import type { DirtyModel } from './dirty-model.ts';
import type { Bandwidth } from './host.ts';
import { Random } from './random.ts';
import type { ClusterSpec } from './simulation.ts';
import type { VmSpec } from './vm.ts';

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

/** Measured: one stream parsed and written to memory, and what two of them do to each other. */
export const ONE_HOST: Bandwidth = { streamBytesPerSecond: 1e9, hostBytesPerSecond: 1.5e9 };

const DEVICE_BYTES = 100 * 1024;

/** Returns an ordinary VM, but for what is given. */
export function vm(ramBytes: number, dirty: DirtyModel, more: Partial<VmSpec> = {}): VmSpec {
  return {
    ramBytes,
    zeroShare: 0.25,
    dirty,
    switchoverAck: true,
    deviceBytes: DEVICE_BYTES,
    deviceMs: 4,
    stopMs: 1,
    ...more,
  };
}

/** Returns one VM of each kind: idle, busy, with a large working set, bursty. */
export function mixed4(): ClusterSpec {
  const busy = { bytesPerSecond: 200e6, workingSetBytes: 128 * MIB };
  const large = { bytesPerSecond: 100e6, workingSetBytes: 768 * MIB };
  const bursty = { bytesPerSecond: 80e6, workingSetBytes: 256 * MIB };
  const members = [
    vm(GIB / 2, { kind: 'idle' }),
    vm(GIB, { kind: 'working-set', ...busy }),
    vm(2 * GIB, { kind: 'working-set', ...large }),
    vm(GIB, { kind: 'bursts', ...bursty, offsetMs: 0 }),
  ];
  return { members, membersPerHost: 4, bandwidth: ONE_HOST };
}

export interface RandomCluster {
  readonly members: number;
  readonly membersPerHost: number;
  readonly ramBytesLeast: number;
  readonly ramBytesMost: number;
}

/** Draws uneven machines with loads of all kinds. */
export function randomCluster(seed: number, shape: RandomCluster): ClusterSpec {
  const random = new Random(seed);
  const members = Array.from({ length: shape.members }, () => {
    const ramBytes = random.logUniform(shape.ramBytesLeast, shape.ramBytesMost);
    return randomVm(random, Math.floor(ramBytes / MIB) * MIB);
  });
  return { members, membersPerHost: shape.membersPerHost, bandwidth: ONE_HOST };
}

/**
 * Repeats the same few hosts until there are so many members: rounds of any size are alike.
 */
export function repeatedCluster(seed: number, members: number): ClusterSpec {
  const few = { members: 80, membersPerHost: 8, ramBytesLeast: GIB / 4, ramBytesMost: GIB };
  const block = randomCluster(seed, few);
  const repeats = Math.ceil(members / few.members);
  const all = Array.from({ length: repeats }, () => block.members).flat();
  return { ...block, members: all.slice(0, members) };
}

/** Draws 4 to 16 members on one host, of 256 MiB to `ramBytesMost` each. */
export function unevenCluster(seed: number, ramBytesMost = 8 * GIB): ClusterSpec {
  const members = new Random(seed).fork().integer(4, 16);
  const shape = { members, membersPerHost: members, ramBytesLeast: GIB / 4, ramBytesMost };
  return randomCluster(seed, shape);
}

function randomVm(random: Random, ramBytes: number): VmSpec {
  return vm(ramBytes, randomLoad(random, ramBytes), {
    zeroShare: random.uniform(0, 0.6),
    deviceMs: random.uniform(2, 6),
    stopMs: random.uniform(0.3, 2),
  });
}

function randomLoad(random: Random, ramBytes: number): DirtyModel {
  const kind = random.choice('idle', 'uniform', 'working-set', 'phases', 'bursts');
  const first = randomSet(random, ramBytes);
  const second = randomSet(random, ramBytes);
  switch (kind) {
    case 'idle':
      return { kind };
    case 'uniform':
      return { kind, bytesPerSecond: random.logUniform(1e6, 50e6) };
    case 'working-set':
      return { kind, ...first };
    case 'bursts':
      return { kind, ...first, offsetMs: random.uniform(0, 1000) };
    case 'phases': {
      const phaseMs = random.uniform(300, 3000);
      return { kind, first, second, phaseMs, offsetMs: random.uniform(0, 2 * phaseMs) };
    }
  }
}

function randomSet(random: Random, ramBytes: number) {
  return {
    bytesPerSecond: random.logUniform(5e6, 500e6),
    workingSetBytes: ramBytes * random.logUniform(0.01, 0.4),
  };
}
