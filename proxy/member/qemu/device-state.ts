/**
 * Saves the device state of a stopped VM: `xen-save-devices-state` (migration/savevm.c), which is
 * there without Xen, too. It goes to a file of this process, by descriptor: QEMU needs no right to
 * a path.
 *
 *     "QEVM" be32 3 | FULL sections | EOF        neither CONFIGURATION, nor RAM, nor VMDESC
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
} from 'node:fs';
import type { QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { sendWithDescriptor } from '../../host/libc.ts';

const HEADER = Buffer.from([0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3]);
/** Number of the set that QEMU keeps the descriptor in. It is the proxy's alone. */
const FDSET = 0x756d;

export class DeviceState {
  readonly #monitor: QmpClient;
  readonly #limitBytes: number;
  readonly #file: number;
  /** Bytes before the state: QEMU's descriptor goes on from where it has written to. */
  #from = 0;
  #open = true;

  /**
   * Gives QEMU the file.
   * @param path a file on tmpfs that is made, and has no name any more when this returns
   * @param limitBytes the most that a state may have
   * @throws QmpError
   */
  static async open(monitor: QmpClient, path: string, limitBytes: number): Promise<DeviceState> {
    rmSync(path, { force: true });
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    let writing: number | undefined;
    try {
      writing = openSync(path, constants.O_WRONLY); // QEMU asks for one of just that mode
      rmSync(path);
      await monitor.execute('remove-fd', { 'fdset-id': FDSET }).catch(() => {}); // there is none
      const given = writing;
      await monitor.giveDescriptor(FDSET, (socket, bytes) =>
        sendWithDescriptor(socket, bytes, given),
      );
      return new DeviceState(monitor, file, limitBytes);
    } catch (error) {
      closeSync(file);
      throw error;
    } finally {
      if (writing !== undefined) closeSync(writing);
    }
  }

  private constructor(monitor: QmpClient, file: number, limitBytes: number) {
    this.#monitor = monitor;
    this.#file = file;
    this.#limitBytes = limitBytes;
  }

  /**
   * Saves the state. The VM must stand.
   * @param limitMs the longest QEMU may take: it flushes the disks
   * @returns its sections, and EOF
   * @throws QmpError; UmbraError E_DEVICE_STATE
   */
  async save(limitMs: number): Promise<Buffer> {
    const filename = `/dev/fdset/${FDSET}`;
    const options = { timeoutMs: limitMs };
    await this.#monitor.execute('xen-save-devices-state', { filename, live: false }, options);
    // The number of a closed descriptor may be another file's by now.
    if (!this.#open) throw unusable('is not wanted any more');
    const { size } = fstatSync(this.#file);
    const bytes = size - this.#from;
    if (bytes > this.#limitBytes) throw unusable(`has ${bytes} bytes (limit: round.inFlight)`);
    const state = Buffer.alloc(Math.max(0, bytes));
    readSync(this.#file, state, 0, state.length, this.#from);
    this.#from = size;
    ftruncateSync(this.#file, 0); // its memory; what comes next is behind a hole
    if (!state.subarray(0, HEADER.length).equals(HEADER)) throw unusable('is none');
    return state.subarray(HEADER.length);
  }

  /** Takes the file back from QEMU, without waiting. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#file);
    if (!this.#monitor.isOpen) return;
    this.#monitor.execute('remove-fd', { 'fdset-id': FDSET }).catch(() => {}); // it goes with QEMU
  }
}

function unusable(why: string): UmbraError {
  return new UmbraError({ code: 'E_DEVICE_STATE', message: `the VM’s device state ${why}` });
}
