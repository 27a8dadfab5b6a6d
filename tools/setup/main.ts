/** The set-up of a machine for tests, demo and benchmarks. */
import { parseArgs } from 'node:util';
import { ensureGuestImage, type GuestImage } from '../guest/image.ts';
import { updateAptLists } from '../packages/apt.ts';
import { SetupError } from '../packages/errors.ts';
import { ensureNextQemu } from '../qemu/next-qemu.ts';
import { findQemus } from '../qemu/qemu.ts';
import { ensureSecondQemu } from '../qemu/second-qemu.ts';
import { accelerator } from './accel.ts';
import { ensureRequirements, LIBVIRT_REQUIREMENTS } from './requirements.ts';

const USAGE = `usage: setup [--second-qemu] [--next-qemu] [--libvirt]

Makes this machine ready to run Umbra's tests, demo and benchmarks: installs missing packages (as
root; otherwise prints the command to run) and builds the guest image. Does nothing if all is there.
--second-qemu also downloads a newer QEMU for the tests; a failure is only reported.
--next-qemu also downloads the next Debian release's QEMU for the tests; the same.
--libvirt also installs libvirt for the tests; a failure is only reported.
`;

function progress(line: string): void {
  process.stderr.write(`setup: ${line}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'second-qemu': { type: 'boolean', default: false },
      'next-qemu': { type: 'boolean', default: false },
      libvirt: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  await ensureRequirements(progress);
  const image = await withAptLists(() => ensureGuestImage({ progress }));
  if (values['second-qemu']) await trySecondQemu();
  if (values['next-qemu']) await tryNextQemu();
  if (values.libvirt) await tryLibvirt();
  await report(image);
}

/**
 * Tries again with new package lists: a fresh container has none, or lists that are out of date.
 */
async function withAptLists<T>(attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    const mayBeOld =
      error instanceof SetupError &&
      (error.code === 'SETUP_PACKAGE_UNKNOWN' || error.code === 'SETUP_COMMAND_FAILED');
    if (!mayBeOld) throw error;
    progress('updating the package lists');
    await updateAptLists();
    return await attempt();
  }
}

async function trySecondQemu(): Promise<void> {
  try {
    await ensureSecondQemu(progress);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    progress(`NO SECOND QEMU: tests across QEMU versions will be skipped. ${why}`);
  }
}

async function tryNextQemu(): Promise<void> {
  try {
    await ensureNextQemu(progress);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    progress(`NO NEXT QEMU: tests with it will fail. ${why}`);
  }
}

async function tryLibvirt(): Promise<void> {
  try {
    await ensureRequirements(progress, LIBVIRT_REQUIREMENTS);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    progress(`NO LIBVIRT: tests with it will fail. ${why}`);
  }
}

async function report(image: GuestImage): Promise<void> {
  const qemus = await findQemus();
  const [qemu] = qemus;
  if (qemu === undefined) throw new Error('qemu-system-x86_64 is there but does not run');
  const accel = await accelerator({ qemu, image });
  const versions = qemus.map(({ version }) => version).join(' and ');
  progress(`ready: QEMU ${versions}, ${accel}, guest image ${image.key}`);
}

main().catch((error: unknown) => {
  progress(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});
