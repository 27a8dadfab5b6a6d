/** Admits a member to a round: can it be captured, how, and is there memory for its shadow? */
import type { QmpClient } from '../../../qmp/index.ts';
import {
  type BlockLayout,
  type OneShadow,
  openOneShadow,
  openShadow,
  StagingShadow,
} from '../../../shadow/index.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import { ramBlocks } from '../qemu/memory.ts';
import { requireReady } from '../qemu/readiness.ts';
import { LARGE_QUEUES } from '../qemu/virtio-queues.ts';
import { type Choice, chooseCapture } from './choose-capture.ts';
import type { Admitted, MemberRound } from './stages.ts';
import { findTrackedChance } from './tracked-support.ts';

/** Memory reserved at once for a delta of a VM that runs, bytes. The rest follows as pages come. */
const RESERVED_BYTES = 64 * 2 ** 20;

/**
 * Admits a member. Changes nothing of its VM. Once the shadow is reserved, this returns: the caller
 * owns it, even if the round is over by then.
 * @throws UmbraError, QmpError, ShadowError
 */
export async function admitMember(round: MemberRound, monitor: QmpClient): Promise<Admitted> {
  await requireReady(monitor);
  const choice = await choose(round, monitor);
  try {
    return await admitChosen(round, monitor, choice);
  } catch (error) {
    choice.tracking?.close();
    throw error;
  }
}

async function admitChosen(
  round: MemberRound,
  monitor: QmpClient,
  choice: Choice,
): Promise<Admitted> {
  round.throwIfOver();
  const { mode, tracking } = choice;
  const { machine, disks } = round.prepare.examined;
  const names = disks.filter(({ isWritable }) => isWritable).map(({ device }) => device);
  if (names.length > 0) round.addFacts({ writableDisks: names });
  const blocks = tracking?.sizes ?? (await ramBlocks(monitor));
  round.throwIfOver();
  const parent = mode === 'tracked' ? openParent(round) : undefined;
  const shadow =
    parent === undefined
      ? await reserve(round, blocks, mode === 'precopy')
      : await reserveLink(round, parent);
  const reservedBytes = blocks.reduce((sum, { length }) => sum + length, 0);
  const { major, minor, micro } = monitor.version;
  const qemuVersion = `${major}.${minor}.${micro}`;
  const note = machine.largeQueues ? LARGE_QUEUES : undefined;
  round.addFacts({ reservedBytes, qemuVersion, ...(note && { note }) });
  const { begins } = choice;
  const vm = { monitor, qemuVersion, writableDisks: names, machine };
  return { ...vm, mode, shadow, reservedBytes, tracking, parent, begins };
}

async function choose(round: MemberRound, monitor: QmpClient): Promise<Choice> {
  const { member, directory } = round.location;
  const choice = await chooseCapture(monitor, round.prepare, () =>
    findTrackedChance(monitor, round.prepare, { member, directory }),
  );
  const { mode, reason } = choice;
  round.addFacts({ capture: mode, ...(reason && { captureReason: reason }) });
  return choice;
}

function openParent({ prepare }: MemberRound): OneShadow {
  const { parent } = prepare.staging;
  if (parent === undefined) throw new Error('a tracked shadow has a parent');
  return openOneShadow(parent.directory, parent.sha256);
}

/** Makes a shadow that stores what was written since its parent. It takes memory as pages come. */
async function reserveLink(memberRound: MemberRound, link: OneShadow): Promise<StagingShadow> {
  const { location, prepare } = memberRound;
  const { round, shadowDirectory: directory, staging } = prepare;
  const { admittedBytes, moreBytes, headroomBytes } = staging;
  memberRound.addFacts({ stored: 'delta' });
  const layout = link.manifest.blocks.map(({ idstr, bytes }) => ({ idstr, length: bytes }));
  const { member } = location;
  return StagingShadow.reserve({ directory, member, round }, layout, PAGE_BYTES, {
    link,
    headroomBytes,
    reservedBytes: 0,
    moreBytes: moreBytes + admittedBytes,
  });
}

/**
 * Reserves memory for the shadow. A VM that is stopped while it is copied must not wait for fresh
 * memory: all of it is taken at once. A VM that runs gets memory as its pages come, for it is not
 * known how many are zeros.
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
