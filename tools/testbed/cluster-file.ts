/** A cluster.yaml of our own guests, for the demo, the benchmarks and the tests. */
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
  /** Of every VM, or of each. */
  readonly memoryMiB: number | readonly number[];
  readonly qemu: QemuBinary;
  readonly image: GuestImage;
  readonly accel: 'tcg' | 'kvm';
  /** A second monitor for each VM, `watch.sock`. */
  readonly watch: boolean;
  /** Further words of QEMU's command line, of each VM. */
  readonly more?: readonly string[] | undefined;
  /** Further sections of the file, such as `{round: {stopDeadline: '5s'}}`. */
  readonly settings?: FileSections | undefined;
}

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
 * What is measured and tested is one capture, not what a host allows: precopy where nothing else is
 * asked for, stop-copy where QEMU cannot be trusted with that.
 */
export function withCapture(settings: FileSections = {}): FileSections {
  return { ...settings, round: { capture: ['precopy', 'stop-copy'], ...settings.round } };
}
