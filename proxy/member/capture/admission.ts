/** The first step of a member's round: can it be had, how, and is there memory for it? */

import { type BlockLayout, openShadow, StagingShadow } from '../../../shadow/index.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import type { CaptureMode } from '../../protocol/member.ts';
import { writableDisks } from '../qemu/disks.ts';
import { ramBlocks } from '../qemu/memory.ts';
import { requireReady } from '../qemu/readiness.ts';
import type { MemberRound } from './member-round.ts';

/** Of a delta of a VM that runs: what it may take before pages have to be found for it. */
const RESERVED_BYTES = 64 * 2 ** 20;

/**
 * With the monitor connected. Changes nothing of the VM.
 * @param choose how it is captured
 * @throws UmbraError, QmpError, ShadowError
 */
export async function admitMember(
  round: MemberRound,
  choose: () => Promise<CaptureMode>,
): Promise<void> {
  const { monitor } = round;
  await requireReady(monitor);
  const mode = await choose();
  const disks = await writableDisks(monitor, round.prepare.workingDirectory);
  if (disks.length > 0) round.addFacts({ writableDisks: disks.map(({ device }) => device) });
  const blocks = await ramBlocks(monitor);
  round.throwIfOver();
  round.shadow = await reserve(round, blocks, mode === 'precopy');
  round.throwIfOver();
  const reservedBytes = blocks.reduce((sum, { length }) => sum + length, 0);
  const { major, minor, micro } = monitor.version;
  round.addFacts({ reservedBytes, qemuVersion: `${major}.${minor}.${micro}` });
  round.handle({ type: 'admitted', background: mode === 'background' });
}

/**
 * A VM that stands while it is copied must not wait for fresh memory: there all of it is taken at
 * once. One that runs is given memory as its pages come, for nobody knows how many are zeros.
 */
async function reserve(
  memberRound: MemberRound,
  blocks: readonly BlockLayout[],
  runs: boolean,
): Promise<StagingShadow> {
  const { location, prepare } = memberRound;
  const { member } = location;
  const { round, shadowDirectory: directory, spareDirectory: spares, staging } = prepare;
  const { base: name, admittedBytes, moreBytes, headroomBytes } = staging;
  const base = name && (await openShadow(name.directory, name.sha256));
  const soon = base === undefined ? 0 : Math.min(admittedBytes, RESERVED_BYTES);
  const reservedBytes = runs ? soon : admittedBytes;
  memberRound.addFacts({ stored: base === undefined ? 'full' : 'delta' });
  return StagingShadow.reserve({ directory, member, round, spares }, blocks, PAGE_BYTES, {
    base,
    reservedBytes,
    headroomBytes,
    moreBytes: moreBytes + admittedBytes - reservedBytes,
  });
}
