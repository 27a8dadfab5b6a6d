/** The guest's recipe from Debian 13: kernel 6.12, Open MPI 5. */
import { COMMON_LINKS, type GuestRecipe } from './recipe.ts';

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

/** Returns the pattern of each library by its name without `.so`. */
function libraries(...names: string[]): string[] {
  return names.map((name) => `${LIBRARIES}/${name}.so.*`);
}

export const DEBIAN_13: GuestRecipe = {
  files: 'root-debian13',
  module: 'usr/lib/modules/*/NAME.ko.xz',
  packages: {
    'busybox-static': ['usr/bin/busybox'],
    hpcc: ['usr/bin/hpcc'],
    'ibverbs-providers': libraries('libefa'),
    libatomic1: libraries('libatomic'),
    libblas3: [`${LIBRARIES}/blas/libblas.so.3*`],
    libc6: [
      'usr/lib64/ld-linux-x86-64.so.2',
      ...libraries('ld-linux-x86-64', 'libc', 'libm', 'libdl', 'libpthread', 'librt', 'libutil'),
      ...libraries('libnss_files'),
    ],
    libcap2: libraries('libcap'),
    'libevent-core-2.1-7t64': [`${LIBRARIES}/libevent_core-*`],
    'libevent-pthreads-2.1-7t64': [`${LIBRARIES}/libevent_pthreads-*`],
    // Open MPI is linked with the libraries of every network, though the guest has Ethernet only.
    libfabric1: libraries('libfabric'),
    'libgcc-s1': libraries('libgcc_s'),
    libgfortran5: libraries('libgfortran'),
    'libglib2.0-0t64': libraries('libglib-2.0', 'libgmodule-2.0'),
    libhwloc15: libraries('libhwloc'),
    libibverbs1: libraries('libibverbs'),
    liblapack3: [`${LIBRARIES}/lapack/liblapack.so.3*`],
    libmunge2: libraries('libmunge'),
    'libnl-3-200': libraries('libnl-3'),
    'libnl-route-3-200': libraries('libnl-route-3'),
    libnuma1: libraries('libnuma'),
    libopenmpi40: libraries('libmpi', 'libmpi_mpifh', 'libopen-pal', 'libprrte'),
    'libpcre2-8-0': libraries('libpcre2-8'),
    libpmix2t64: [
      ...libraries('libpmix'),
      `${LIBRARIES}/pmix2/lib/*`,
      `${LIBRARIES}/pmix2/share/pmix/help*`,
    ],
    'libpsm2-2': libraries('libpsm2'),
    librdmacm1t64: libraries('librdmacm'),
    'libscalapack-openmpi2.2': libraries('libscalapack-openmpi'),
    libucx0: libraries('libucm', 'libucp', 'libucs', 'libuct'),
    libudev1: libraries('libudev'),
    liburing2: libraries('liburing'),
    'openmpi-bin': ['usr/bin/mpirun.openmpi', 'usr/bin/prte', 'usr/bin/prted'],
    'openmpi-common': ['usr/share/openmpi/help-*', 'usr/share/prte/*'],
    'qemu-guest-agent': ['usr/sbin/qemu-ga'],
    'scalapack-mpi-test': [`${LIBRARIES}/scalapack/openmpi-tests/xdlu`],
    zlib1g: libraries('libz'),
  },
  links: {
    ...COMMON_LINKS,
    'usr/bin/mpirun': 'mpirun.openmpi',
    'usr/bin/mpiexec': 'mpirun.openmpi',
    'usr/bin/prterun': 'prte',
  },
};
