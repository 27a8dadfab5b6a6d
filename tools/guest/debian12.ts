/** The guest's recipe from Debian 12: kernel 6.1, Open MPI 4.1. */
import { COMMON_LINKS, type GuestRecipe } from './recipe.ts';

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
const SYSTEM_LIBRARIES = 'lib/x86_64-linux-gnu';
const MCA = `${LIBRARIES}/openmpi/lib/openmpi3`;

/** Open MPI plug-ins that a TCP cluster without a batch system loads; the rest is left out. */
const MCA_COMPONENTS = [
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

export const DEBIAN_12: GuestRecipe = {
  files: 'root-debian12',
  module: 'lib/modules/*/NAME.ko',
  packages: {
    'busybox-static': ['bin/busybox'],
    hpcc: ['usr/bin/hpcc'],
    libblas3: [`${LIBRARIES}/blas/libblas.so.3*`],
    libc6: [
      'lib64/ld-linux-x86-64.so.2',
      ...['ld-linux-x86-64', 'libc', 'libm', 'libdl', 'libpthread', 'librt', 'libutil'].map(
        (name) => `${SYSTEM_LIBRARIES}/${name}.so.*`,
      ),
      `${SYSTEM_LIBRARIES}/libnss_files.so.2`,
    ],
    'libevent-core-2.1-7': [`${LIBRARIES}/libevent_core-*`],
    'libevent-pthreads-2.1-7': [`${LIBRARIES}/libevent_pthreads-*`],
    'libgcc-s1': [`${SYSTEM_LIBRARIES}/libgcc_s.so.1`],
    libgfortran5: [`${LIBRARIES}/libgfortran.so.*`],
    'libglib2.0-0': [`${LIBRARIES}/libglib-2.0.so.*`, `${LIBRARIES}/libgmodule-2.0.so.*`],
    libhwloc15: [`${LIBRARIES}/libhwloc.so.*`],
    liblapack3: [`${LIBRARIES}/lapack/liblapack.so.3*`],
    libmunge2: [`${LIBRARIES}/libmunge.so.*`],
    'libnl-3-200': [`${SYSTEM_LIBRARIES}/libnl-3.so.*`],
    'libnl-route-3-200': [`${LIBRARIES}/libnl-route-3.so.*`],
    libnuma1: [`${LIBRARIES}/libnuma.so.*`],
    libopenmpi3: [
      ...['libmpi', 'libmpi_mpifh', 'libopen-pal', 'libopen-rte'].map(
        (name) => `${LIBRARIES}/${name}.so.*`,
      ),
      ...MCA_COMPONENTS.map((name) => `${MCA}/mca_${name}.so`),
    ],
    'libpcre2-8-0': [`${LIBRARIES}/libpcre2-8.so.*`],
    libpmix2: [`${LIBRARIES}/libpmix.so.*`, `${LIBRARIES}/pmix2/lib/*`],
    libquadmath0: [`${LIBRARIES}/libquadmath.so.*`],
    'libscalapack-openmpi2.2': [`${LIBRARIES}/libscalapack-openmpi.so.*`],
    libudev1: [`${LIBRARIES}/libudev.so.*`],
    liburing2: [`${LIBRARIES}/liburing.so.*`],
    'openmpi-bin': ['usr/bin/orted', 'usr/bin/orterun'],
    'openmpi-common': ['usr/share/openmpi/help-*'],
    'qemu-guest-agent': ['usr/sbin/qemu-ga'],
    'scalapack-mpi-test': [`${LIBRARIES}/scalapack/openmpi-tests/xdlu`],
    zlib1g: [`${SYSTEM_LIBRARIES}/libz.so.*`],
  },
  links: {
    ...COMMON_LINKS,
    'usr/bin/mpirun': 'orterun',
    'usr/bin/mpiexec': 'orterun',
  },
};
