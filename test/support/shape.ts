/**
 * VMs as people run them: shapes of one VM, each run by the owner's command, attached, and put
 * through what an operator does with it.
 *
 *     start ─▶ attach ─▶ change by a monitor's client ─▶ doctor ─▶ checkpoint ─┬─ refused
 *                                                                             └─ epoch
 *     epoch ─▶ killed, restored by auto ─▶ killed, restored by stream ─▶ clone
 *
 * Whatever comes back verifies its own memory (tools/testbed/tiny/guest.c).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { QmpClient } from '../../qmp/index.ts';
import type { QemuBinary } from '../../tools/qemu/qemu.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import { TinyGuest } from '../../tools/testbed/tiny/tiny-guest.ts';

/** Ends what would never end. */
const LIMIT_MS = 300_000;

/** A monitor that takes any command. */
export type Monitor = (command: string, words?: object) => Promise<unknown>;

/** A VM of one shape. */
export interface Shape {
  readonly name: string;
  /** Options besides those that every shape has; `{f}` is a folder for its files. */
  readonly options: string;
  /** Default: pc-i440fx-7.2. */
  readonly machine?: string;
  /** Default: 64. */
  readonly memory?: string;
  /** Runs a copy of QEMU in its folder, `{f}/qemu`, which may be replaced. */
  readonly ownProgram?: true;
  /** The VM inherits a descriptor, 3. */
  readonly descriptor?: true;
  /** Makes its files, in the folder `{f}`. */
  readonly files?: (folder: string) => void;
  /** Does to the running VM what its owner may do. */
  readonly change?: (monitor: Monitor, folder: string) => Promise<void>;
  /** The code with which a checkpoint is refused; absent if there must be an epoch. */
  readonly refused?: string;
  /** Words of the refusal. */
  readonly says?: RegExp;
  /** How `auto` brings it back. Default: map. */
  readonly restored?: 'map' | 'stream';
  /** The reason why it is not by map. */
  readonly reason?: RegExp;
  /** The code with which a clone is refused. */
  readonly cloneRefused?: string;
  /** False where no throw-away QEMU can prove it. */
  readonly proven?: boolean;
  /** The oldest QEMU that has what it needs, such as 9. */
  readonly since?: number;
  /** The newest that has it. */
  readonly until?: number;
}

/** A running VM of a shape. */
export class ShapeVm {
  readonly shape: Shape;
  readonly folder: string;
  readonly qemu: ChildProcess;

  /** Starts it as its owner would. Its process goes with the testbed. */
  constructor(shape: Shape, bed: Testbed, qemu: QemuBinary, kernel: string) {
    this.shape = shape;
    this.folder = join(bed.home, 'vm', shape.name);
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    shape.files?.(this.folder);
    const log = openSync(this.log, 'a', 0o600);
    const binary = join(this.folder, 'qemu');
    if (shape.ownProgram) copyFileSync(qemu.binary, binary);
    const own = shape.ownProgram ? { ...qemu, binary } : qemu;
    const line = commandLine(shape, own, kernel, this.folder);
    const env = { ...process.env, UMBRA_HOME: bed.home };
    const [program = '', ...words] = line;
    const inherited = shape.descriptor ? [log] : [];
    const stdio = ['ignore' as const, log, log, ...inherited];
    this.qemu = spawn(program, words, { env, detached: true, stdio });
    this.qemu.on('error', () => {}); // it does not answer, and its log says why
  }

  get log(): string {
    return join(this.folder, 'qemu.log');
  }

  get monitorSocket(): string {
    return join(this.folder, 'qmp.sock');
  }

  /** @throws Error with QEMU's last words */
  readonly verify = async (serial = join(this.folder, 'serial.sock')): Promise<string> => {
    const guest = await TinyGuest.connect(serial, LIMIT_MS).catch((error: Error) => {
      throw new Error(`${this.shape.name}: ${error.message}: ${this.lastWords()}`);
    });
    try {
      return await guest.verify(LIMIT_MS);
    } finally {
      guest.close();
    }
  };

  lastWords(): string {
    return readFileSync(this.log, 'latin1').slice(-1000);
  }

  /** Lends a monitor, of the two that it has the one that Umbra does not use. */
  readonly withMonitor = async <T>(use: (monitor: Monitor) => Promise<T>): Promise<T> => {
    const client = await QmpClient.connect(join(this.folder, 'owner.sock'), {
      timeoutMs: LIMIT_MS,
    });
    try {
      return await use((command, words) => client.execute(command as 'cont', words as undefined));
    } finally {
      client.close();
    }
  };
}

/** Returns the whole command line of a shape, program first. */
export function commandLine(
  { options, machine = 'pc-i440fx-7.2', memory = '64' }: Shape,
  qemu: QemuBinary,
  kernel: string,
  folder: string,
): string[] {
  const words = options
    .replaceAll('{f}', folder)
    .split(/\s+/)
    .filter((word) => word !== '');
  const socket = (name: string) => `unix:${folder}/${name}.sock,server=on,wait=off`;
  const usual = [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-kernel', kernel],
    ['-machine', machine, '-m', memory],
    ['-qmp', socket('qmp'), '-qmp', socket('owner'), '-serial', socket('serial')],
  ];
  return [qemu.binary, ...qemu.args, ...usual.flat(), ...words];
}
