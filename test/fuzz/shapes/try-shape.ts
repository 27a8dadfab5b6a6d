/**
 * Tries one VM: an epoch that is called whole must come back, and nothing else may have changed.
 *
 *     start ─▶ attach ─▶ changes ─▶ checkpoint ─┬─ refused: it runs on, its memory as it was
 *       │                                       └─ epoch ─▶ killed ─▶ restore ─▶ memory verified
 *       └── QEMU does not take these options: no VM
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure } from '../../../proxy/failure/failure.ts';
import type { QemuBinary } from '../../../tools/qemu/qemu.ts';
import { Testbed } from '../../../tools/testbed/testbed.ts';
import { buildTinyGuest } from '../../../tools/testbed/tiny/tiny-guest.ts';
import { commandLine, type Shape, ShapeVm } from '../../support/shape.ts';
import type { DrawnShape, VmFile } from './grammar.ts';
import { withoutRefusal } from './without-refusal.ts';

/** The end of a try. */
export interface Tried {
  readonly outcome: 'no VM' | 'restored' | 'refused' | 'fault';
  /** The code of a refusal, or the mode of a restore; what was seen, of a fault. */
  readonly what: string;
  readonly message: string;
  /** The end of a refused VM when QEMU alone saved and loaded it. */
  readonly without?: string;
}

/** Limit for the end of a QEMU whose serial line has ended. */
const END_LIMIT_MS = 10_000;

/** Files that QEMU itself makes, or its VM writes. */
const CHANGES = /\.(sock|log)$|^(net|peer|ram|qemu_back_mem.*)$/;

/** @param asksWhy of a refused VM, shows what would have happened (without-refusal.ts) */
export async function tryShape(
  drawn: DrawnShape,
  qemu: QemuBinary,
  asksWhy = false,
): Promise<Tried> {
  const bed = Testbed.empty(qemu);
  try {
    return await attempt(bed, drawn, qemu, asksWhy);
  } catch (error) {
    return { outcome: 'fault', what: 'an error', message: String((error as Error).message) };
  } finally {
    await bed.umbra('down', '--cluster', 'fuzz', '--purge');
    await bed.dispose();
  }
}

async function attempt(
  bed: Testbed,
  drawn: DrawnShape,
  qemu: QemuBinary,
  asksWhy: boolean,
): Promise<Tried> {
  const kernel = await buildTinyGuest(bed.home);
  const { machine, memory, options } = drawn;
  const files = (folder: string) => {
    for (const file of drawn.files) makeFile(folder, file);
  };
  const shape: Shape = { name: 'vm', machine, memory, options, files };
  const vm = new ShapeVm(shape, bed, qemu, kernel);
  const ended = once(vm.qemu, 'exit').then(() => 'ended' as const);
  // Its serial line may end a moment before it does.
  const started = vm.verify().catch(async (error: unknown) => {
    await Promise.race([ended, delay(END_LIMIT_MS, undefined, { ref: false })]);
    throw error;
  });
  started.catch(() => {});
  const up = await Promise.race([started, ended]);
  if (up === 'ended') return { outcome: 'no VM', what: '', message: vm.lastWords().slice(-300) };
  const attached = await bed.umbra(
    'attach',
    '--cluster',
    'fuzz',
    `vm=${vm.monitorSocket}`,
    '--json',
  );
  if (attached.code !== 0) return refusal(attached.stdout, vm);
  await vm.withMonitor(async (monitor) => {
    // A change that this VM does not allow is none.
    for (const { make, removes } of drawn.changes) {
      await make(monitor, vm.folder).catch(() => {});
      if (removes !== undefined) rmSync(join(vm.folder, removes), { force: true });
    }
  });
  const before = contents(vm.folder);
  const checkpoint = await bed.umbra('checkpoint', '--json');
  const isSame = () => equal(contents(vm.folder), before);
  if (checkpoint.code !== 0) {
    const refused = await refusal(checkpoint.stdout, vm);
    if (!isSame()) return { outcome: 'fault', what: 'a file was changed', message: refused.what };
    if (!asksWhy || refused.outcome !== 'refused') return refused;
    const words = commandLine(shape, qemu, kernel, vm.folder);
    return { ...refused, without: await withoutRefusal(vm, words) };
  }
  const after = await vm.verify();
  if (!after.startsWith('ok')) return fault('the running VM is not as it was', after);
  process.kill(pidOf(bed), 'SIGKILL');
  const restore = await bed.umbra('restore', '--replace', '--json');
  const answer = lastLine(restore.stdout) as {
    readonly failure?: Failure;
    readonly members?: readonly { mode: string; reason?: string }[];
  };
  if (restore.code !== 0) {
    return fault('an epoch that does not come back', `${answer.failure?.message}`);
  }
  const found = await vm.verify();
  if (!found.startsWith('ok')) return fault('it came back otherwise', found);
  if (!isSame()) return fault('a file was changed', '');
  const [member] = answer.members ?? [];
  return { outcome: 'restored', what: member?.mode ?? '', message: member?.reason ?? '' };
}

/** Checks a refusal: it is coded, and the VM runs on. */
async function refusal(stdout: string, vm: ShapeVm): Promise<Tried> {
  const { failure } = lastLine(stdout) as { readonly failure?: Failure };
  const after = await vm.verify();
  if (!after.startsWith('ok')) return fault('refused, and not as it was', after);
  if (failure === undefined) return fault('refused without a code', stdout.slice(-300));
  const known = EXPECTED.has(failure.code);
  if (!known) return fault(`refused by ${failure.code}`, failure.message);
  return { outcome: 'refused', what: failure.code, message: failure.message };
}

/** Codes by which a VM may be refused before anything is touched. */
const EXPECTED: ReadonlySet<string> = new Set([
  'E_VM_CHANGED',
  'E_VM_FILE',
  'E_VM_USER',
  'E_VM_NO_DESCRIPTION',
  'E_VM_BLOCKED',
  'E_BACKGROUND_DISKS',
  'E_BACKGROUND_UNSUPPORTED',
  'E_DISK_IN_USE',
  'E_COMMAND_LINE',
]);

function fault(what: string, message: string): Tried {
  return { outcome: 'fault', what, message };
}

function makeFile(folder: string, { name, content }: VmFile): void {
  const path = join(folder, name);
  writeFileSync(path, typeof content === 'string' ? content : '');
  if (typeof content === 'number') truncateSync(path, content);
}

function contents(folder: string): ReadonlyMap<string, string> {
  const names = readdirSync(folder).filter((name) => !CHANGES.test(name));
  return new Map(
    names
      .filter((name) => lstatSync(join(folder, name)).isFile())
      .map((name) => {
        const hash = createHash('sha256').update(readFileSync(join(folder, name)));
        return [name, hash.digest('hex')];
      }),
  );
}

function equal(one: ReadonlyMap<string, string>, two: ReadonlyMap<string, string>): boolean {
  return one.size === two.size && [...one].every(([name, hash]) => two.get(name) === hash);
}

function lastLine(text: string): unknown {
  return JSON.parse(text.trim().split('\n').at(-1) || '{}');
}

function pidOf(bed: Testbed): number {
  const note = readFileSync(join(bed.home, 'fuzz', 'vm', 'vm', 'vm.json'), 'utf8');
  return (JSON.parse(note) as { pid: number }).pid;
}
