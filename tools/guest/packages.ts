/** The guests' recipes, and what all of them share. */
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import { type DebianRelease, systemRelease } from '../packages/release.ts';
import { DEBIAN_12 } from './debian12.ts';
import { DEBIAN_13 } from './debian13.ts';
import type { GuestRecipe } from './recipe.ts';

const RECIPES: Readonly<Record<DebianRelease['codename'], GuestRecipe>> = {
  bookworm: DEBIAN_12,
  trixie: DEBIAN_13,
};

/** Debian's package that depends on the newest cloud kernel's package. */
const KERNEL_PACKAGE = 'linux-image-cloud-amd64';

/**
 * Returns the recipe from the packages of this system.
 * @throws SetupError SETUP_RELEASE_UNKNOWN
 */
export async function guestRecipe(): Promise<GuestRecipe> {
  return RECIPES[(await systemRelease()).codename];
}

/**
 * Returns the name of the newest cloud kernel's package.
 * @throws SetupError SETUP_PACKAGE_UNKNOWN
 */
export async function newestKernelPackage(): Promise<string> {
  const answer = await runCommand('apt-cache', ['depends', KERNEL_PACKAGE]);
  const name = /Depends: (linux-image-[0-9][^ \n]*)/.exec(answer)?.[1];
  if (name === undefined) {
    throw new SetupError('SETUP_PACKAGE_UNKNOWN', `apt knows no ${KERNEL_PACKAGE}`);
  }
  return name;
}

/** Returns the patterns of the kernel and of these modules in the kernel's package. */
export function kernelFiles({ module }: GuestRecipe, modules: readonly string[]): string[] {
  return ['boot/vmlinuz-*', ...modules.map((name) => module.replace('NAME', name))];
}
