/** Sealed shadows for the tests of the durable tier, with content of every kind. */
import { randomFillSync } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DurableStore, Pace, type PersistStep } from '../../../shadow/durable/index.ts';
import {
  type EpochManifest,
  makeEpochManifest,
  openShadow,
  StagingShadow,
} from '../../../shadow/index.ts';

export const PAGE = 4096;
export const PAGES = 352;
/** Pages of noise: more than one batch of a container takes. */
const NOISE = 264;
const TEXT = 40;

const IDENTITY = {
  machineType: 'pc',
  qemuVersion: '10.0.2',
  uuid: '',
  name: '',
  commandLine: ['qemu'],
  workingDirectory: '/',
};

export function roundOf(epoch: number): string {
  return `r${String(epoch).padStart(6, '0')}-0123abcd`;
}

/**
 * Seals a shadow for each member: pages of noise, pages that compress, pages that lie apart,
 * and holes.
 * @param base epoch against whose shadows deltas are taken
 * @returns the epoch's manifest, which is not published anywhere
 */
export async function sealEpoch(
  shadows: string,
  epoch: number,
  members: readonly string[] = ['a', 'b'],
  base?: EpochManifest,
): Promise<EpochManifest> {
  const round = roundOf(epoch);
  const sealed = [];
  for (const member of members) {
    mkdirSync(join(shadows, round), { recursive: true });
    const directory = join(shadows, round, member);
    const layout = [
      { idstr: 'pc.ram', length: PAGES * PAGE },
      { idstr: 'vga.vram', length: 16 * PAGE },
    ];
    const location = { directory, member, round };
    const delta = base && {
      base: await openShadow(join(shadows, base.round, member)),
      reservedBytes: 0,
      moreBytes: PAGES * PAGE,
      headroomBytes: 0,
    };
    const shadow = await StagingShadow.reserve(location, layout, PAGE, delta);
    const streamed = layout.map(({ idstr, length }) => ({ idstr, usedLength: length }));
    const [ram, vram] = shadow.match(streamed);
    for (let page = 0; page < PAGES; page++) {
      const kind =
        page < NOISE ? 'noise' : page < NOISE + TEXT ? 'text' : page % 7 === 0 ? 'text' : 'hole';
      if (kind === 'hole') continue;
      const content = Buffer.alloc(PAGE, `${member} ${page} `);
      if (kind === 'noise') randomFillSync(content);
      ram?.writePage(page * PAGE, content, 0);
    }
    ram?.flush();
    vram?.zeroPage(0);
    const { sha256 } = await shadow.seal({
      identity: IDENTITY,
      configuration: Buffer.from('conf'),
      deviceState: deviceStateOf(member),
      vmdesc: '{}',
    });
    sealed.push({ name: member, shadow: sha256 });
  }
  return makeEpochManifest({
    cluster: 'demo',
    epoch,
    round,
    createdAt: `2030-01-01T00:00:0${epoch}.000Z`,
    members: sealed,
  });
}

/** Persists, lists and retires, which takes every named step, in their order. */
export async function persistAndRetire(
  store: DurableStore,
  shadows: string,
  epoch: EpochManifest,
  onStep: (step: PersistStep) => void,
): Promise<void> {
  const pace = new Pace(undefined, { now: () => 0, sleep: async () => {} });
  await store.persistShadows(epoch, shadows, { pace, onStep, onProgress: () => {}, parallel: 2 });
  await store.publish(epoch, onStep);
  await store.retire([epoch.epoch - 1], onStep);
}

/** Makes a device state, from a FULL section to EOF as in a stream; it describes no real device. */
function deviceStateOf(member: string): Buffer {
  const bytes = Buffer.alloc(5_000, `devices of ${member} `);
  bytes[0] = 4;
  bytes[bytes.length - 1] = 0;
  return bytes;
}
