/** Checks that a QEMU can build an epoch's machine again. */
import { execFile } from 'node:child_process';
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { machineTypeOf } from '../../command-line/machine-type.ts';
import { UmbraError } from '../../failure/failure.ts';

/**
 * Refuses an epoch whose machine is not the configured one, or one that this QEMU cannot build.
 * @param program the QEMU to start
 * @param recorded the machine type in the epoch, in full; '' if it is not known
 * @param configured the member's command line, if the configuration has one
 * @throws UmbraError E_MACHINE_TYPE
 */
export async function requireMachine(
  program: string,
  recorded: string,
  configured: readonly string[] | undefined,
): Promise<void> {
  if (recorded === '') return;
  const machines = await machineTypes(program);
  const wanted = configured && machineTypeOf(configured);
  const full = wanted === undefined ? undefined : (machines.get(wanted) ?? wanted);
  if (full !== undefined && familyOf(full) !== familyOf(recorded)) {
    const message = `the epoch is of machine type ${recorded}, the member is now a ${full}`;
    throw new UmbraError({ code: 'E_MACHINE_TYPE', message });
  }
  if (machines.size > 0 && ![...machines.values()].includes(recorded)) {
    const message = `${program} does not know machine type ${recorded}`;
    throw new UmbraError({ code: 'E_MACHINE_TYPE', message });
  }
}

/** Returns a machine type without its version: pc-i440fx-7.2 and pc-i440fx-10.0 are one machine. */
function familyOf(machineType: string): string {
  return machineType.replace(/-\d+(\.\d+)*$/, '');
}

/** Answers of QEMUs, by program and file: to ask one takes as long as to start a VM. */
const answers = new Map<string, Promise<ReadonlyMap<string, string>>>();

/** Asks a QEMU which machines it can build, before a restore needs the answer. Never rejects. */
export async function queryMachines(program: string): Promise<void> {
  await machineTypes(program).catch(() => {}); // the restore reports the error
}

async function machineTypes(program: string): Promise<ReadonlyMap<string, string>> {
  const file = await fileOf(program);
  if (file === undefined) return askMachineTypes(program); // its error says why not
  const key = `${program} ${file.ino} ${file.mtimeMs}`;
  const answer = answers.get(key) ?? askMachineTypes(program);
  answers.set(key, answer);
  answer.catch(() => answers.delete(key));
  return answer;
}

/** Returns the file that runs when this program is started; an upgrade changes it. */
async function fileOf(program: string): Promise<Stats | undefined> {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter);
  for (const folder of folders) {
    const file = await stat(join(folder, program)).catch(() => undefined);
    if (file?.isFile()) return file;
  }
  return undefined;
}

/** Returns the names and aliases a QEMU knows, each with its full name, from `-machine help`. */
async function askMachineTypes(program: string): Promise<ReadonlyMap<string, string>> {
  const types = new Map<string, string>();
  const { stdout } = await promisify(execFile)(program, ['-machine', 'help']).catch(
    (cause: Error) => {
      const message = `cannot run ${program}: ${cause.message}`;
      throw new UmbraError({ code: 'E_VM_START', message }, cause);
    },
  );
  for (const line of stdout.split('\n').slice(1)) {
    const name = /^(\S+)\s/.exec(line)?.[1];
    if (name === undefined) continue;
    types.set(name, /\(alias of (\S+)\)/.exec(line)?.[1] ?? name);
  }
  return types;
}
