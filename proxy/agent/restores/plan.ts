/**
 * Plans a restore: reads an epoch's shadows and says how each member is to be brought back. Changes
 * nothing; restores.ts enacts it.
 *
 *     started by Umbra    map      QEMU maps the image of main RAM; the rest is streamed
 *                         stream   everything is streamed
 *     run by libvirt      map      the same, if libvirt puts the domain's memory into a file
 *                         libvirt  `virsh restore` reads everything, as a save image
 */
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import {
  type EpochManifest,
  mainRamIndex,
  openShadow,
  type SealedShadow,
} from '../../../shadow/index.ts';
import { withLayers } from '../../command-line/disks.ts';
import { domainMemory } from '../../command-line/domain-memory.ts';
import { mapObstacle } from '../../command-line/map-obstacle.ts';
import { type MappedRam, restoreCommandLine } from '../../command-line/restore-line.ts';
import { allOrFirstFailure } from '../../failure/all-or-first-failure.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { RestorePlan } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import { layerOver, layerOwner, type RestoredDisk } from '../../protocol/disk-layer.ts';
import type { RestoreMode } from '../../protocol/member.ts';
import { requireLayers } from '../vms/disk-layers.ts';
import { requireMachine } from './machine-type.ts';
import { requireMember } from './members.ts';

type EpochMember = EpochManifest['members'][number];

/**
 * Returns how the members of an epoch are to be brought back.
 * @param config the cluster whose epoch it is
 * @throws UmbraError E_MACHINE_TYPE, E_MAP_UNSUPPORTED, E_COMMAND_LINE, E_DISK_LAYER,
 * E_DISK_COMMAND, E_LIBVIRT_XML, E_MEMBER_UNKNOWN; ShadowError for a damaged shadow
 */
export function planRestore(
  config: ClusterConfig,
  { round, members }: EpochManifest,
  wanted: RestoreMode | 'auto',
): Promise<RestorePlan[]> {
  return allOrFirstFailure(
    members.map(async (member) => {
      try {
        return await planMember(config, round, member, wanted);
      } catch (error) {
        const context = { member: member.name, where: 'plan restore' };
        throw UmbraError.received(toFailure(error, context), error);
      }
    }),
  );
}

async function planMember(
  config: ClusterConfig,
  round: string,
  epochMember: EpochMember,
  wanted: RestoreMode | 'auto',
): Promise<RestorePlan> {
  const { name, shadow: sha256 } = epochMember;
  const member = requireMember(config, name);
  const shadowDirectory = join(config.shadowsDirectory, round, name);
  const shadow = await openShadow(shadowDirectory, sha256);
  const { manifest } = shadow;
  if (member.libvirt !== undefined) return planDomain(shadow, wanted);
  const { commandLine, machineType, workingDirectory } = manifest.identity;
  await requireMachine(commandLine[0] ?? '', machineType, member.command);
  const main = manifest.blocks[mainRamIndex(manifest)];
  const obstacle = main && mapObstacle(commandLine, main.idstr);
  if (wanted === 'map' && obstacle !== undefined) throw cannotMap(obstacle);
  const mode = wanted === 'auto' ? (obstacle === undefined ? 'map' : 'stream') : wanted;
  const mapped = mode === 'map' ? mainRamImage(shadow) : undefined;
  const disks = newLayers(layerOwner(config.cluster, name), epochMember);
  const line = restoreCommandLine(commandLine, machineType, mapped);
  return {
    member: name,
    mode,
    reason: wanted === 'auto' ? obstacle : undefined,
    commandLine: withLayers(line, disks, workingDirectory),
    recordedCommandLine: commandLine,
    workingDirectory,
    shadowDirectory,
    disks,
    mappedDirectory: mapped && dirname(mapped.path),
  };
}

/**
 * Plans new layers over a member's disks: a restored VM writes there, and the epoch's files stay.
 */
function newLayers(owner: string, { disks = [] }: EpochMember): RestoredDisk[] {
  const restored = disks.map((disk) => {
    const id = randomBytes(4).toString('hex');
    return { ...disk, layer: layerOver(disk.layers[0]?.path ?? '', owner, id) };
  });
  requireLayers(restored);
  return restored;
}

/** Plans the restore of a domain: libvirt starts it, from what looks to it like a save image. */
function planDomain(shadow: SealedShadow, wanted: RestoreMode | 'auto'): RestorePlan {
  const { directory, manifest } = shadow;
  const { domainXml: xml, commandLine } = manifest.identity;
  if (xml === undefined) {
    const message = 'the epoch has no domain XML: the VM was not run by libvirt when it was taken';
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message });
  }
  const main = mainRamImage(shadow);
  const found = wanted === 'stream' ? undefined : domainMemory(commandLine, main.id);
  const obstacle = typeof found === 'string' ? found : undefined;
  const insists = wanted === 'map';
  if (insists && obstacle !== undefined) throw cannotMap(obstacle);
  const location = typeof found === 'string' ? undefined : found;
  const memory = location && { ...location, image: main.path, bytes: main.bytes };
  return {
    member: manifest.member,
    mode: memory ? 'map' : 'libvirt',
    reason: obstacle,
    commandLine: [],
    recordedCommandLine: [],
    workingDirectory: '/',
    shadowDirectory: directory,
    domain: { xml, memory, insists },
    disks: [],
    mappedDirectory: memory && dirname(main.path),
  };
}

/** Returns the full image of main RAM: the shadow's own, or that of its base. */
function mainRamImage({ directory, manifest, base }: SealedShadow): MappedRam {
  const own = manifest.blocks[mainRamIndex(manifest)];
  if (own === undefined) throw new Error('a shadow without RAM');
  const { idstr: id, bytes } = own;
  if (own.kind === 'full') return { id, bytes, path: join(directory, own.file) };
  const based = base?.manifest.blocks.find(({ idstr }) => idstr === id);
  if (base === undefined || based === undefined) throw new Error('a delta without its base');
  return { id, bytes, path: join(base.directory, based.file) };
}

function cannotMap(obstacle: string): UmbraError {
  return new UmbraError({ code: 'E_MAP_UNSUPPORTED', message: `cannot map: ${obstacle}` });
}
