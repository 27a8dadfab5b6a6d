/** A cluster.yaml whose members run our guest image, for the demo, benchmarks and tests. */
import { stringify } from 'yaml';
import { guestCommandLine } from '../guest/command-line.ts';
import type { GuestImage } from '../guest/image.ts';
import type { QemuBinary } from '../qemu/qemu.ts';

const DEFAULT_MIB = 256;

/** Sections of a cluster.yaml, as its author writes them. */
export interface FileSections {
  readonly round?: object;
  readonly [section: string]: unknown;
}

export interface ClusterFileOptions {
  readonly cluster: string;
  readonly nodes: number;
  /** MiB of RAM: one number for all VMs, or one for each. */
  readonly memoryMiB: number | readonly number[];
  readonly qemu: QemuBinary;
  readonly image: GuestImage;
  readonly accel: 'tcg' | 'kvm';
  /** Gives each VM a second monitor, `watch.sock`. */
  readonly watch: boolean;
  /** Further arguments of QEMU, for each VM. */
  readonly more?: readonly string[] | undefined;
  /** Further sections of the file, such as `{round: {stopDeadline: '5s'}}`. */
  readonly settings?: FileSections | undefined;
}

/** Returns the text of the cluster.yaml. */
export function clusterFile(options: ClusterFileOptions): string {
  const { cluster, nodes, memoryMiB, qemu, image, accel, settings, watch, more = [] } = options;
  const second = watch ? ['-qmp', 'unix:{dir}/watch.sock,server=on,wait=off'] : [];
  const members = Array.from({ length: nodes }, (_, node) => ({
    name: `n${node}`,
    command: [
      ...guestCommandLine({
        qemu,
        image,
        accel,
        node,
        nodes,
        dir: '{dir}',
        memoryMiB: typeof memoryMiB === 'number' ? memoryMiB : (memoryMiB[node] ?? DEFAULT_MIB),
      }),
      ...second,
      ...more,
    ],
  }));
  const network = { switch: ['{dir}/net.sock'] };
  return stringify({ cluster, members, network, ...withCapture(settings) });
}

/**
 * Adds a fixed choice of capture to settings that name none, so that tests and benchmarks measure
 * the same capture on every host: precopy, or stop-copy where QEMU's dirty log is not reliable.
 */
export function withCapture(settings: FileSections = {}): FileSections {
  return { ...settings, round: { capture: ['precopy', 'stop-copy'], ...settings.round } };
}
