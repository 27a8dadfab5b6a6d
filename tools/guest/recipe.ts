/** Parts that a guest image is made of; each release of Debian has a recipe of its own. */
export interface GuestRecipe {
  /** Folder beside `root/` with files of ours that only this release's guest has. */
  readonly files: string;
  /** Path of a kernel module in the kernel's package: a pattern, with NAME for its name. */
  readonly module: string;
  /**
   * Files that the image takes from each package: paths inside it, in which `*` matches anything.
   * No other files are taken. A pattern that matches nothing fails the build.
   */
  readonly packages: Readonly<Record<string, readonly string[]>>;
  /** Links, to their targets, that alternatives and maintainer scripts would have made. */
  readonly links: Readonly<Record<string, string>>;
}

/** Links that the guest has whatever it is made of. */
export const COMMON_LINKS: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  sbin: 'usr/bin',
  lib: 'usr/lib',
  lib64: 'usr/lib64',
  'usr/bin/sh': 'busybox',
  'usr/lib/umbra/xdlu': '../x86_64-linux-gnu/scalapack/openmpi-tests/xdlu',
  'usr/lib/x86_64-linux-gnu/libblas.so.3': 'blas/libblas.so.3',
  'usr/lib/x86_64-linux-gnu/liblapack.so.3': 'lapack/liblapack.so.3',
};
