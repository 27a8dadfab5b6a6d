/** The guests of a cluster that was cloned from a testbed's own. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GuestControl } from '../../tools/guest/control.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';
import type { Guests } from './job.ts';

const PROXY = /member.process/;

export class CloneGuests implements Guests {
  readonly nodes: number;
  readonly directory: string;
  readonly #bed: Testbed;
  readonly #name: string;
  readonly #controls = new Map<number, GuestControl>();

  constructor(bed: Testbed, name: string) {
    this.nodes = bed.nodes;
    this.directory = join(bed.home, name);
    this.#bed = bed;
    this.#name = name;
  }

  async guest(node: number): Promise<GuestControl> {
    const known = this.#controls.get(node);
    if (known !== undefined) return known;
    const control = await GuestControl.connect(join(this.#member(node), 'control.sock'));
    this.#controls.set(node, control);
    return control;
  }

  async shell(node: number, command: string): Promise<string> {
    const { output, exitCode } = await (await this.guest(node)).run(command);
    if (exitCode !== 0) throw new Error(`${this.#name} n${node}: ${command}: ${output}`);
    return output;
  }

  hangUp(): void {
    for (const control of this.#controls.values()) control.close();
    this.#controls.clear();
  }

  killAll(): void {
    this.hangUp();
    for (let node = 0; node < this.nodes; node++) process.kill(this.#pid(node), 'SIGKILL');
  }

  /**
   * Lists all traces of the clone on the machine: its processes, its files, and files of others
   * that it maps.
   */
  traces(): string[] {
    const mark = new RegExp(`${this.directory}(/|\\b)|--cluster ${this.#name}\\b`);
    const all = this.#bed.processes();
    // A proxy's command line does not name its cluster. Its daemon's does, unless that has ended.
    const owner = (pid: number, line: string) =>
      PROXY.test(line) ? (all.get(parentOf(pid)) ?? this.directory) : line;
    const processes = [...all].filter(([pid, line]) => mark.test(owner(pid, line)));
    const files = existsSync(this.directory)
      ? readdirSync(this.directory, { recursive: true, encoding: 'utf8' })
      : [];
    const folder = existsSync(this.directory) ? [this.directory] : [];
    return [...processes.map(([pid, line]) => `${pid} ${line}`), ...folder, ...files];
  }

  #pid(node: number): number {
    const card = readFileSync(join(this.#member(node), 'vm.json'), 'utf8');
    return (JSON.parse(card) as { pid: number }).pid;
  }

  #member(node: number): string {
    return join(this.directory, 'vm', `n${node}`);
  }
}

/** Returns the parent of a process; 0 if the process has ended. */
function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  } catch {
    return 0;
  }
}
