/**
 * Measures what it costs to know that an epoch can be restored, beside the checkpoint of the same
 * VM without it, in turn:
 *
 *     prove_ms_1g              loading a later epoch of a 1 GiB VM into a throw-away QEMU, by map,
 *                              from its start to its end, while the VM runs
 *     prove_vs_round           time of a round with the proof ÷ time of one without
 *     admission_ms_40_devices  asking a VM of more than 40 devices which machine it is
 */
import { join } from 'node:path';
import { examineVm } from '../../proxy/member/qemu/machine.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement } from './bench.ts';
import { spread } from './statistics.ts';

const RUNS = 5;
const GUEST_MIB = 1024;
const FILL_MIB = 512;
const BUSES = 2;
const DEVICES_OF_A_BUS = 20;

export async function benchProve(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const qemu = await newestQemu();
  const more = Array.from({ length: BUSES }, (_, bus) => {
    const keyboards = Array.from({ length: DEVICES_OF_A_BUS }, () => `usb-kbd,bus=usb${bus}.0`);
    const devices = [`qemu-xhci,id=usb${bus},p2=15,p3=15`].concat(keyboards);
    return devices.flatMap((device) => ['-device', device]);
  }).flat();
  const bed = await Testbed.create({ nodes: 1, memoryMiB: GUEST_MIB, watch: true, qemu, more });
  try {
    progress(`a VM of ${GUEST_MIB} MiB, ${FILL_MIB} MiB of it in use`);
    await bed.up();
    await bed.dirty(0, { sizeMiB: FILL_MIB, rateMiB: 2, pattern: 'random' });
    const turns = [];
    for (let run = 0; run <= runs; run++) {
      progress(run === 0 ? 'warm-up' : `turn ${run} of ${runs}`);
      const plain = await bed.json<RoundReport>('checkpoint');
      const proven = await bed.json<RoundReport>('checkpoint', '--prove');
      const [proof] = proven.proof ?? [];
      if (proof?.mode !== 'map') throw new Error(`not proven by map: ${proof?.notProven}`);
      const askMs = await timeToAsk(bed);
      const proofMs = proof.proofMs ?? 0;
      const turn = { proofMs, askMs, plainMs: plain.durationMs, provenMs: proven.durationMs };
      if (run > 0) turns.push(turn);
    }
    const proofs = spread(turns.map(({ proofMs }) => proofMs));
    const asks = spread(turns.map(({ askMs }) => askMs));
    const ratios = spread(turns.map(({ plainMs, provenMs }) => provenMs / plainMs));
    return {
      figures: {
        prove_ms_1g: proofs.median,
        prove_vs_round: ratios.median,
        admission_ms_40_devices: asks.median,
      },
      rows: [
        { what: 'a proof by map', unit: 'ms', spread: proofs },
        { what: 'a round', unit: 'ms', spread: spread(turns.map(({ plainMs }) => plainMs)) },
        { what: 'with a proof', unit: 'ms', spread: spread(turns.map((turn) => turn.provenMs)) },
        { what: 'with a proof ÷ without', unit: '', spread: ratios },
        { what: 'the machine is asked', unit: 'ms', spread: asks },
      ],
    };
  } finally {
    await bed.dispose();
  }
}

async function timeToAsk(bed: Testbed): Promise<number> {
  const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
  try {
    const startedAt = performance.now();
    await examineVm(monitor, '/');
    return performance.now() - startedAt;
  } finally {
    monitor.close();
  }
}
