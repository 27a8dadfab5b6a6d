/**
 * The command line that starts a VM again, so that its state can be restored into it. PURE.
 *
 *     as recorded   qemu -machine pc -m 512 … -S?  -incoming?  -daemonize?
 *     to restore    qemu -machine pc-i440fx-7.2 -m 512 … -S
 *     and, mapped   … -object memory-backend-file,id=pc.ram,size=N,mem-path=FILE,share=off
 *                     -machine memory-backend=pc.ram
 *     by an upgraded    reconnect=N → reconnect-ms=N000 (QEMU 9.2), which 11.1 insists on
 *
 * The machine type is the recorded one, in full: an alias such as `pc` may mean another machine to
 * another QEMU. The backend's id must be the RAMBlock's idstr, because it becomes the block's name.
 */
import { UmbraError } from '../failure/failure.ts';
import { withMachineType } from './machine-type.ts';
import { isMemoryBackend } from './map-obstacle.ts';
import { formatOptions, parseOptions, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';
import { withReconnect } from './reconnect.ts';

/** The memory backend that a `map` restore starts the VM with. */
export interface MappedRam {
  /** The RAMBlock's idstr. */
  readonly id: string;
  readonly bytes: number;
  /** The image. */
  readonly path: string;
  /**
   * Has QEMU open the image for reading, so that no balloon, however it comes to the VM, can punch
   * holes into it (`rom`, backends/hostmem-file.c, since QEMU 8.2).
   */
  readonly readOnly?: boolean;
}

/** Options about how the recorded QEMU was started, which say nothing about the VM. */
const OF_THE_START: ReadonlySet<string> = new Set(['S', 'daemonize', 'incoming', 'loadvm']);
/** Properties that name a file descriptor QEMU has inherited. */
const DESCRIPTORS: ReadonlySet<string> = new Set(['fd', 'fds', 'vhostfd', 'vhostfds', 'sockfd']);

/**
 * Returns the command line that starts the VM again, stopped. The caller adds where QEMU takes the
 * state from (`-incoming`).
 * @param version that of the QEMU to be started, such as `10.0.2`; '' if it is not known
 * @throws UmbraError E_COMMAND_LINE when the command line cannot be used a second time
 */
export function restoreCommandLine(
  commandLine: readonly string[],
  machineType: string,
  { version = '', mapped }: { version?: string; mapped?: MappedRam | undefined } = {},
): string[] {
  const [program, ...words] = commandLine;
  if (program === undefined) {
    throw new UmbraError({ code: 'E_COMMAND_LINE', message: 'the command line is empty' });
  }
  const kept = parseOptions(words).filter((option) => {
    refuseDescriptor(option);
    const { name, value = '' } = option;
    if (OF_THE_START.has(name)) return false;
    return !(mapped !== undefined && name === 'object' && isMemoryBackend(value, mapped.id));
  });
  const typed = machineType === '' ? kept : withMachineType(kept, machineType);
  const spelled = version === '' ? typed : withReconnect(typed, version);
  const options = [...spelled, ...(mapped === undefined ? [] : mappedOptions(mapped))];
  return [program, ...formatOptions(options), '-S'];
}

function refuseDescriptor({ name, value = '' }: QemuOption): void {
  if (name === 'append') return; // the words of the guest's kernel
  const takes = new OptionValue(value, '').keys.some((key) => DESCRIPTORS.has(key));
  if (name !== 'add-fd' && !takes) return;
  const message = `-${name} ${value} uses a file descriptor that exists only once`;
  const hint = 'Start the VM with paths instead of descriptors, or restore it through its manager.';
  throw new UmbraError({ code: 'E_COMMAND_LINE', message, hint });
}

function mappedOptions({ id, bytes, path, readOnly = false }: MappedRam): QemuOption[] {
  const backend = new OptionValue('memory-backend-file', 'qom-type');
  backend.set('id', id);
  backend.set('size', String(bytes));
  backend.set('mem-path', path);
  backend.set('share', 'off');
  if (readOnly) {
    backend.set('readonly', 'on');
    backend.set('rom', 'off');
  }
  // Machine types up to 3.1 would name the block by the backend's path (backends/hostmem-file.c).
  backend.set('x-use-canonical-path-for-ramblock-id', 'off');
  return [
    { name: 'object', value: backend.format() },
    { name: 'machine', value: `memory-backend=${id}` },
  ];
}
