/**
 * Finds out whether QEMU's log of dirtied pages can be trusted, which precopy rests on. Under KVM,
 * hardware keeps that log. Without KVM, QEMU's emulator does (TCG), in the software TLBs of its
 * vCPUs, beside the thread that reads it. There it has missed writes:
 *
 *     before 9.0   all writes of vCPUs that knew a page as dirty when it was sent (QEMU commit
 *                  03bfc2188f)
 *     since        for instants: a vCPU looks whether a page is clean, then enters it as dirty, and
 *                  the log is read in between (tlb_set_page_full and notdirty_write,
 *                  accel/tcg/cputlb.c); or a vCPU is not told of cleared bits, none of which was
 *                  new (`if (num_dirty)`, migration/ram.c)
 *
 * A page that was missed is an old page in the stream, and no error appears anywhere. The memory of
 * an emulated VM is therefore compared with its shadow (compare-memory.ts), where it can be read.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import { ProcessMemory } from '../../host/process-memory.ts';
import type { PrepareCommand } from '../../protocol/member.ts';

const COMPARED_SINCE_MAJOR = 9;

export type PrecopyOptions = Pick<PrepareCommand, 'vm' | 'compareEmulated'>;

/** Returns why precopy cannot be trusted with this VM; undefined if it can. */
export async function precopyObstacle(
  qmp: QmpClient,
  { vm, compareEmulated }: PrecopyOptions,
): Promise<string | undefined> {
  const { major, minor } = qmp.version;
  if (!(await isEmulated(qmp))) return undefined;
  if (major < COMPARED_SINCE_MAJOR) {
    return `QEMU ${major}.${minor} under TCG loses dirty pages in precopy (fixed in 9.0)`;
  }
  if (!compareEmulated) return undefined;
  const why = comparingObstacle(vm);
  if (why === undefined) return undefined;
  const missed = 'QEMU under TCG can miss a dirty page in precopy';
  return `${missed}, and its memory is not to be compared: ${why}`;
}

/** Returns true if the VM runs without KVM. */
export async function isEmulated(qmp: QmpClient): Promise<boolean> {
  return !(await qmp.execute('query-kvm')).enabled;
}

function comparingObstacle(vm: KnownProcess | undefined): string | undefined {
  if (vm === undefined) return 'it is not known which process it is';
  try {
    new ProcessMemory(vm).close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
