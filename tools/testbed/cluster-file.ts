/** A cluster.yaml of our own guests, for the demo, the benchmarks and the tests. */
import { stringify } from 'yaml';
import { guestCommandLine } from '../guest/command-line.ts';
import type { GuestImage } from '../guest/image.ts';
import type { QemuBinary } from '../setup/qemu.ts';

const DEFAULT_MIB = 256;

export interface ClusterFileOptions {
  readonly cluster: string;
  readonly nodes: number;
  /** Of every VM, or of each. */
  readonly memoryMiB: number | readonly number[];
  readonly qemu: QemuBinary;
  readonly image: GuestImage;
  readonly accel: 'tcg' | 'kvm';
  /** A second monitor for each VM, `watch.sock`. */
  readonly watch: boolean;
  /** Further sections of the file, such as `{round: {stopDeadline: '5s'}}`. */
  readonly settings?: object | undefined;
}

export function clusterFile(options: ClusterFileOptions): string {
  const { cluster, nodes, memoryMiB, qemu, image, accel, settings, watch } = options;
  const second = watch ? ['-qmp', 'unix:{dir}/watch.sock,server=on,wait=off'] : [];
  const members = Array.from({ length: nodes }, (_, node) => ({
    name: `n${node}`,
    command: [
      ...guestCommandLine({
        ...{ qemu, image, accel, node, nodes, dir: '{dir}' },
        memoryMiB: typeof memoryMiB === 'number' ? memoryMiB : (memoryMiB[node] ?? DEFAULT_MIB),
      }),
      ...second,
    ],
  }));
  return stringify({ cluster, members, network: { switch: ['{dir}/net.sock'] }, ...settings });
}
