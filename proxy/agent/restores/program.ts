/** Asks a QEMU, by running it, which version it is and which machines it can build. */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { UmbraError } from '../../failure/failure.ts';

/** Facts of a QEMU. */
export interface QemuProgram {
  /** Such as `10.0.2`; empty where it does not say. */
  readonly version: string;
  /** Names and aliases of machine types, each with its full name. */
  readonly machines: ReadonlyMap<string, string>;
}

/** Answers of QEMUs, by program and file: to ask one takes as long as to start a VM. */
const answers = new Map<string, Promise<QemuProgram>>();

/** @throws UmbraError E_VM_START: it cannot be run */
export async function queryProgram(program: string): Promise<QemuProgram> {
  const path = pathOf(program);
  if (path === undefined) return ask(program); // its error says why not
  const { ino, mtimeMs } = statSync(path);
  const key = `${program} ${ino} ${mtimeMs}`;
  const answer = answers.get(key) ?? ask(program);
  answers.set(key, answer);
  answer.catch(() => answers.delete(key));
  return answer;
}

/** Returns the path of the file that runs when this program is started; undefined if none does. */
export function pathOf(program: string): string | undefined {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter);
  return folders
    .map((folder) => join(folder, program))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
}

async function ask(program: string): Promise<QemuProgram> {
  const [about, help] = await Promise.all([
    output(program, ['--version']),
    output(program, ['-machine', 'help']),
  ]);
  const version = /version (\d+\.\d+\.\d+)/.exec(about)?.[1] ?? '';
  const machines = new Map<string, string>();
  for (const line of help.split('\n').slice(1)) {
    const name = /^(\S+)\s/.exec(line)?.[1];
    if (name === undefined) continue;
    machines.set(name, /\(alias of (\S+)\)/.exec(line)?.[1] ?? name);
  }
  return { version, machines };
}

async function output(program: string, words: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, words)).stdout;
  } catch (cause) {
    const message = `cannot run ${program}: ${(cause as Error).message}`;
    throw new UmbraError({ code: 'E_VM_START', message }, cause);
  }
}
