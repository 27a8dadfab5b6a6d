/** Chooses between KVM and QEMU's emulator, TCG. */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestImage } from '../guest/image.ts';
import { cacheFolder } from '../packages/cache.ts';
import { SetupError } from '../packages/errors.ts';
import type { QemuBinary } from '../qemu/qemu.ts';

export type Accelerator = 'tcg' | 'kvm';

/** Limit for a guest's first line, which takes a working one less than a second. */
const PROBE_MS = 5_000;

export interface AcceleratorInputs {
  readonly qemu: QemuBinary;
  readonly image: Pick<GuestImage, 'kernel'>;
  /** Environment, by default `process.env`; tests give their own. */
  readonly environment?: NodeJS.ProcessEnv;
}

/**
 * Returns `kvm` where it works, else `tcg`. It tries a boot: some hosts have a /dev/kvm on which a
 * machine starts, and then hangs before its first line. The answer is cached until the host's next
 * boot. UMBRA_ACCEL overrides it.
 * @throws SetupError SETUP_BAD_ACCELERATOR for another value of UMBRA_ACCEL than tcg and kvm.
 */
export async function accelerator(inputs: AcceleratorInputs): Promise<Accelerator> {
  const chosen = (inputs.environment ?? process.env).UMBRA_ACCEL;
  if (chosen === 'tcg' || chosen === 'kvm') return chosen;
  if (chosen !== undefined && chosen !== '') {
    throw new SetupError('SETUP_BAD_ACCELERATOR', `UMBRA_ACCEL is tcg or kvm, not "${chosen}"`);
  }
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const note = await noteFile(inputs.qemu);
  const known = await readFile(note, 'utf8').catch(() => '');
  if (known === 'tcg' || known === 'kvm') return known;
  const accel = (await kvmBoots(inputs.qemu, inputs.image.kernel, PROBE_MS)) ? 'kvm' : 'tcg';
  await mkdir(cacheFolder(), { recursive: true, mode: 0o700 });
  await writeFile(`${note}.${process.pid}`, accel);
  await rename(`${note}.${process.pid}`, note);
  return accel;
}

/** Returns the file of the answer, one for each QEMU and boot: kernel and rights may change. */
async function noteFile(qemu: QemuBinary): Promise<string> {
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return join(cacheFolder(), `accelerator-${qemu.version}-${bootId}`);
}

/** Starts the guest's kernel under KVM; resolves to true if it prints its version in time. */
export function kvmBoots(qemu: QemuBinary, kernel: string, timeoutMs: number): Promise<boolean> {
  const options = [
    ['-no-user-config', '-nodefaults', '-display', 'none', '-no-reboot'],
    ['-machine', 'pc', '-accel', 'kvm', '-cpu', 'max', '-m', '128'],
    ['-kernel', kernel, '-append', 'console=ttyS0 earlyprintk=serial panic=-1'],
    ['-serial', 'stdio'],
  ];
  return new Promise((resolve) => {
    const args = qemu.args.concat(options.flat());
    const child = spawn(qemu.binary, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    let output = '';
    let printed = false;
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      output = (output + text).slice(-1024);
      if (!output.includes('Linux version')) return;
      printed = true;
      child.kill('SIGKILL');
    });
    const end = () => {
      clearTimeout(timer);
      resolve(printed);
    };
    child.once('error', end).once('close', end);
  });
}
