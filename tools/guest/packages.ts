import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';

/** Debian's name for "the newest cloud kernel"; it depends on the one package that holds it. */
const kernelPackage = 'linux-image-cloud-amd64';

const libraries = 'usr/lib/x86_64-linux-gnu';
const systemLibraries = 'lib/x86_64-linux-gnu';
const mca = `${libraries}/openmpi/lib/openmpi3`;

/** Open MPI plug-ins that a TCP cluster without a batch system loads; the others are left out. */
const mcaComponents = [
  'allocator_basic allocator_bucket bml_r2 btl_self btl_tcp coll_basic coll_inter coll_libnbc',
  'coll_self coll_sync coll_tuned errmgr_default_app errmgr_default_hnp errmgr_default_orted',
  'errmgr_default_tool ess_env ess_hnp ess_pmi ess_singleton ess_tool filem_raw grpcomm_direct',
  'iof_hnp iof_orted iof_tool mpool_hugepage odls_default oob_tcp osc_pt2pt osc_rdma',
  'patcher_overwrite plm_isolated plm_rsh pmix_ext3x pmix_isolated pml_ob1 pstat_linux',
  'rcache_grdma reachable_weighted regx_fwd regx_naive regx_reverse rmaps_ppr',
  'rmaps_resilient rmaps_round_robin rmaps_seq rml_oob routed_binomial routed_direct',
  'routed_radix rtc_hwloc schizo_ompi schizo_orte shmem_mmap shmem_posix shmem_sysv state_app',
  'state_hnp state_novm state_orted state_tool topo_basic',
].flatMap((line) => line.split(' '));

/**
 * What the image takes from which package: paths inside it, `*` matches anything. Whatever is not
 * named stays out. A pattern that matches nothing fails the build.
 */
export const guestPackages: Readonly<Record<string, readonly string[]>> = {
  'busybox-static': ['bin/busybox'],
  hpcc: ['usr/bin/hpcc'],
  libblas3: [`${libraries}/blas/libblas.so.3*`],
  libc6: [
    'lib64/ld-linux-x86-64.so.2',
    ...['ld-linux-x86-64', 'libc', 'libm', 'libdl', 'libpthread', 'librt', 'libutil'].map(
      (name) => `${systemLibraries}/${name}.so.*`,
    ),
    `${systemLibraries}/libnss_files.so.2`,
  ],
  'libevent-core-2.1-7': [`${libraries}/libevent_core-*`],
  'libevent-pthreads-2.1-7': [`${libraries}/libevent_pthreads-*`],
  'libgcc-s1': [`${systemLibraries}/libgcc_s.so.1`],
  libgfortran5: [`${libraries}/libgfortran.so.*`],
  libhwloc15: [`${libraries}/libhwloc.so.*`],
  liblapack3: [`${libraries}/lapack/liblapack.so.3*`],
  libmunge2: [`${libraries}/libmunge.so.*`],
  'libnl-3-200': [`${systemLibraries}/libnl-3.so.*`],
  'libnl-route-3-200': [`${libraries}/libnl-route-3.so.*`],
  libopenmpi3: [
    ...['libmpi', 'libmpi_mpifh', 'libopen-pal', 'libopen-rte'].map(
      (name) => `${libraries}/${name}.so.*`,
    ),
    ...mcaComponents.map((name) => `${mca}/mca_${name}.so`),
  ],
  libpmix2: [`${libraries}/libpmix.so.*`, `${libraries}/pmix2/lib/*`],
  libquadmath0: [`${libraries}/libquadmath.so.*`],
  'libscalapack-openmpi2.2': [`${libraries}/libscalapack-openmpi.so.*`],
  libudev1: [`${libraries}/libudev.so.*`],
  'openmpi-bin': ['usr/bin/orted', 'usr/bin/orterun'],
  'openmpi-common': ['usr/share/openmpi/help-*'],
  'scalapack-mpi-test': [`${libraries}/scalapack/openmpi-tests/xdlu`],
  zlib1g: [`${systemLibraries}/libz.so.*`],
};

/** What Debian's alternatives and maintainer scripts would have made: link → target. */
export const guestLinks: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  sbin: 'usr/bin',
  lib: 'usr/lib',
  lib64: 'usr/lib64',
  'usr/bin/sh': 'busybox',
  'usr/bin/mpirun': 'orterun',
  'usr/bin/mpiexec': 'orterun',
  'usr/lib/umbra/xdlu': '../x86_64-linux-gnu/scalapack/openmpi-tests/xdlu',
  'usr/lib/x86_64-linux-gnu/libblas.so.3': 'blas/libblas.so.3',
  'usr/lib/x86_64-linux-gnu/liblapack.so.3': 'lapack/liblapack.so.3',
};

/** @throws SetupError SETUP_PACKAGE_UNKNOWN */
export async function newestKernelPackage(): Promise<string> {
  const answer = await runCommand('apt-cache', ['depends', kernelPackage]);
  const name = /Depends: (linux-image-[0-9][^ \n]*)/.exec(answer)?.[1];
  if (name === undefined) {
    throw new SetupError('SETUP_PACKAGE_UNKNOWN', `apt knows no ${kernelPackage}`);
  }
  return name;
}

export function kernelFiles(modules: readonly string[]): string[] {
  return ['boot/vmlinuz-*', ...modules.map((name) => `lib/modules/*/${name}.ko`)];
}
