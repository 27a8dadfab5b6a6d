/** `umbra doctor`: tries what Umbra needs of this host and its VMs, and names the fix. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, readFile, statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import { joiningObstacle } from '../../proxy/host/madvise.ts';
import { measureRoom } from '../../shadow/index.ts';
import { builtGuestImage } from '../guest/image.ts';
import { findQemus } from '../qemu/qemu.ts';
import { accelerator } from '../setup/accel.ts';
import { clusterFindings, type Finding } from './doctor-members.ts';
import { umbraHome } from './home.ts';
import { bytes, type Output, table } from './output.ts';

const run = promisify(execFile);
/** statfs(2), f_type of tmpfs. */
const TMPFS_MAGIC = 0x01021994;
const OLDEST_QEMU = 7.2;
const LEAST_ROOM_BYTES = 2 ** 30;

/** Prints the findings. @returns false if something is missing that Umbra cannot do without */
export async function doctor(output: Output): Promise<boolean> {
  const host = await Promise.all([
    qemu(),
    kvm(),
    userfaultfd(),
    hugePages(),
    store(),
    room(),
    mapping(),
  ]);
  const findings = [...host, ...(await clusterFindings())];
  const fine = findings.every(({ verdict }) => verdict !== 'missing');
  const rows = findings.map(({ check, verdict, found, fix }) => {
    return [verdict.toUpperCase(), check, found, fix === undefined ? '' : `fix: ${fix}`];
  });
  const end = fine ? 'This host can run Umbra.' : 'Something is missing; see the fixes above.';
  output.result({ fine, findings }, `${table(['', 'CHECK', 'FOUND', ''], rows)}\n\n${end}`);
  return fine;
}

async function qemu(): Promise<Finding> {
  const check = 'QEMU';
  const fix = 'apt-get install qemu-system-x86';
  try {
    const { stdout } = await run('qemu-system-x86_64', ['--version']);
    const found = stdout.split('\n')[0] ?? '';
    const version = Number(/version (\d+\.\d+)/.exec(found)?.[1]);
    if (version >= OLDEST_QEMU) return { check, verdict: 'ok', found, fix: undefined };
    return { check, verdict: 'missing', found: `${found}; 7.2 is the oldest that serves`, fix };
  } catch {
    return { check, verdict: 'missing', found: 'no qemu-system-x86_64 in PATH', fix };
  }
}

async function kvm(): Promise<Finding> {
  const check = 'KVM';
  const without = 'guests run emulated (TCG), many times slower';
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const found = absent ? `no /dev/kvm: ${without}` : `/dev/kvm may not be opened: ${without}`;
    const fix = absent ? 'modprobe kvm_amd || modprobe kvm_intel' : 'adduser $USER kvm';
    return { check, verdict: 'note', found, fix };
  }
  const [image, [system]] = [await builtGuestImage(), await findQemus().catch(() => [])];
  if (image === undefined || system === undefined) {
    const found = '/dev/kvm is there, but was not tried: that takes a QEMU and the guest image';
    return { check, verdict: 'note', found, fix: 'npm run guest, in Umbra’s sources' };
  }
  if ((await accelerator({ qemu: system, image })) === 'kvm') {
    return { check, verdict: 'ok', found: 'a guest boots under it', fix: undefined };
  }
  const found = `/dev/kvm is there, but a guest does not boot under it: ${without}`;
  return { check, verdict: 'note', found, fix: undefined };
}

async function userfaultfd(): Promise<Finding> {
  const check = 'userfaultfd';
  const path = '/proc/sys/vm/unprivileged_userfaultfd';
  const allowed = await readFile(path, 'utf8').catch(() => undefined);
  if (allowed === undefined) {
    const found = 'not in this kernel: capture mode background will not work';
    return { check, verdict: 'note', found, fix: undefined };
  }
  if (process.getuid?.() === 0 || allowed.trim() === '1') {
    return { check, verdict: 'ok', found: 'may be used', fix: undefined };
  }
  const found = 'root only: capture mode background will not work';
  return { check, verdict: 'note', found, fix: 'sysctl vm.unprivileged_userfaultfd=1' };
}

/** Tries to join huge pages, on the parent process. */
async function hugePages(): Promise<Finding> {
  const check = 'huge pages';
  const obstacle = joiningObstacle(process.ppid);
  if (obstacle === undefined)
    return { check, verdict: 'ok', found: 'are joined again', fix: undefined };
  const found = `stay split after background captures, whose cuts take longer: ${obstacle}`;
  return { check, verdict: 'note', found, fix: undefined };
}

async function store(): Promise<Finding> {
  const check = 'store';
  let home = 'UMBRA_HOME';
  try {
    home = umbraHome();
    await mkdir(home, { recursive: true, mode: 0o700 });
    await access(home, constants.W_OK);
  } catch (error) {
    const found = `${home}: ${(error as Error).message}`;
    return { check, verdict: 'missing', found, fix: 'set UMBRA_HOME to a folder on tmpfs' };
  }
  const { type } = await statfs(home);
  if (type === TMPFS_MAGIC) {
    return { check, verdict: 'ok', found: `${home} is on tmpfs`, fix: undefined };
  }
  const found = `${home} is not on tmpfs: checkpoints would go to a disk`;
  return { check, verdict: 'note', found, fix: 'set UMBRA_HOME to a folder on tmpfs' };
}

async function room(): Promise<Finding> {
  const check = 'memory';
  const { availableBytes, limitedBy } = measureRoom('/dev/shm');
  const found = `${bytes(availableBytes)} for shadows (limit: ${limitedBy})`;
  if (availableBytes >= LEAST_ROOM_BYTES) return { check, verdict: 'ok', found, fix: undefined };
  const fix = 'remove epochs (umbra rm), or add memory';
  return { check, verdict: 'note', found, fix };
}

/** Loads the native library through which the store maps files. */
async function mapping(): Promise<Finding> {
  const check = 'mapping';
  try {
    const { default: koffi } = await import('koffi');
    koffi.load('libc.so.6');
    return { check, verdict: 'ok', found: `koffi ${koffi.version}`, fix: undefined };
  } catch (error) {
    const found = `koffi does not load: ${(error as Error).message}`;
    return { check, verdict: 'missing', found, fix: 'npm ci on this machine' };
  }
}
