/**
 * Plans a restore: reads an epoch's shadows and says how each member is to be brought back. Changes
 * nothing; restores.ts enacts it.
 *
 *     started by Umbra    map      QEMU maps the image of main RAM; the rest is streamed. Under
 *                                  `auto`, one that does not load is loaded by stream
 *                         stream   everything is streamed
 *     run by libvirt      map      the same, if libvirt puts the domain's memory into a file
 *                         libvirt  `virsh restore` reads everything, as a save image
 */
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import {
  chainOf,
  type EpochManifest,
  mainRamIndex,
  openShadow,
  type SealedShadow,
  type ShadowManifest,
} from '../../../shadow/index.ts';
import { withLayers } from '../../command-line/disks.ts';
import { domainMemory } from '../../command-line/domain-memory.ts';
import { hasBalloon } from '../../command-line/machine-changes.ts';
import { BALLOON, mapObstacle, type VmOptions } from '../../command-line/map-obstacle.ts';
import { withMedia } from '../../command-line/media.ts';
import { formatOptions, optionsOf } from '../../command-line/option-list.ts';
import { isAtLeast } from '../../command-line/reconnect.ts';
import { type MappedRam, restoreCommandLine } from '../../command-line/restore-line.ts';
import { allOrFirstFailure } from '../../failure/all-or-first-failure.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { buildIdOf } from '../../host/build-id.ts';
import type { RestoreChoices, RestorePlan } from '../../protocol/agent.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';
import { layerOver, layerOwner, type RestoredDisk } from '../../protocol/disk-layer.ts';
import type { RestoreMode } from '../../protocol/member.ts';
import { requireLayers } from '../vms/disk-layers.ts';
import { keptProgram } from './kept-program.ts';
import { requireMachine } from './machine-type.ts';
import { requireMember } from './members.ts';
import { pathOf, queryProgram } from './program.ts';
import { vmOptions } from './vm-options.ts';

/** The first QEMU that maps a file it has opened for reading, for the guest to write to. */
const READ_ONLY_SINCE = [8, 2] as const;

/** The first QEMU that refuses queues that are larger than it makes itself, as far as tried. */
const NORMAL_QUEUES_SINCE = [11, 0] as const;

type EpochMember = EpochManifest['members'][number];

/**
 * Returns how the members of an epoch are to be brought back.
 * @param config the cluster whose epoch it is
 * @throws UmbraError E_QEMU_NOT_KEPT, E_MACHINE_TYPE, E_MAP_UNSUPPORTED, E_COMMAND_LINE,
 * E_DISK_LAYER, E_DISK_COMMAND, E_LIBVIRT_XML, E_MEMBER_UNKNOWN; ShadowError for a damaged shadow
 */
export function planRestore(
  config: ClusterConfig,
  { round, members }: EpochManifest,
  choices: RestoreChoices,
): Promise<RestorePlan[]> {
  return allOrFirstFailure(
    members.map(async (member) => {
      try {
        return await planMember(config, round, member, choices);
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
  choices: RestoreChoices,
): Promise<RestorePlan> {
  const { name, shadow: sha256 } = epochMember;
  const member = requireMember(config, name);
  const shadow = await openShadow(join(config.shadowsDirectory, round, name), sha256);
  return planShadow(config, member, shadow, epochMember, choices);
}

/**
 * Returns how a member is to be brought back from a shadow whose identity says how it is started.
 * @throws as planRestore
 */
export async function planShadow(
  config: Pick<ClusterConfig, 'cluster' | 'directory'>,
  member: MemberConfig,
  shadow: SealedShadow,
  epochMember: EpochMember,
  { mode: wanted, qemu }: RestoreChoices,
): Promise<RestorePlan> {
  const { directory: shadowDirectory, manifest } = shadow;
  const { name } = member;
  if (member.libvirt !== undefined) {
    if (qemu === 'recorded') throw notKept('libvirt chooses the QEMU of a domain');
    return planDomain(shadow, wanted);
  }
  const { commandLine, workingDirectory } = manifest.identity;
  const installed = commandLine[0] ?? '';
  const start = qemu === 'recorded' ? requireKept(manifest, config.directory) : [installed];
  const [program = ''] = start;
  const machineType = machineTypeOf(manifest);
  await requireMachine(program, machineType, member.command);
  const { version } = await queryProgram(program);
  const obstacle = obstacleOf(manifest, vmOptions(commandLine, workingDirectory));
  if (wanted === 'map' && obstacle !== undefined) throw cannotMap(obstacle);
  const mode = wanted === 'auto' ? (obstacle === undefined ? 'map' : 'stream') : wanted;
  const mapped = mode === 'map' ? mainRamImage(shadow) : undefined;
  const image = mapped && { ...mapped, readOnly: isAtLeast(version, READ_ONLY_SINCE) };
  const disks = newLayers(layerOwner(config.cluster, name), epochMember);
  const lineWith = (ram: MappedRam | undefined) => {
    const [, ...asItWas] = withMediaOf(manifest);
    const line = restoreCommandLine([...start, ...asItWas], machineType, { version, mapped: ram });
    return withLayers(line, disks, workingDirectory);
  };
  return {
    member: name,
    mode,
    reason: wanted === 'auto' ? obstacle : undefined,
    commandLine: lineWith(image),
    byStream: wanted === 'auto' && mode === 'map' ? lineWith(undefined) : undefined,
    note:
      program === installed
        ? otherQemu(manifest, installed, version)
        : `on the QEMU ${version} that it ran on`,
    recordedCommandLine: commandLine,
    workingDirectory,
    shadowDirectory,
    disks,
    mappedDirectory: mapped && dirname(mapped.path),
  };
}

/** Returns the command line with the media that its drives had. */
function withMediaOf({ identity }: ShadowManifest): string[] {
  const { commandLine, workingDirectory, machine } = identity;
  const [program = ''] = commandLine;
  if (machine === undefined) return [...commandLine];
  const options = withMedia(optionsOf(commandLine), machine.media, workingDirectory);
  return [program, ...formatOptions(options)];
}

/** Returns the machine type in full; empty where neither the stream nor QEMU has said it. */
function machineTypeOf({ identity }: ShadowManifest): string {
  return identity.machineType || (identity.machine?.type ?? '');
}

function obstacleOf(manifest: ShadowManifest, options: VmOptions): string | undefined {
  const { machine } = manifest.identity;
  const all = [...options.given, ...options.fromFiles];
  if (hasBalloon(all, machine)) return BALLOON;
  if (machine?.mainRam === '') return 'its RAM is split over NUMA nodes';
  const main = manifest.blocks[mainRamIndex(manifest)];
  return main && mapObstacle(options, main.idstr);
}

/** Returns what an operator is told of a VM that comes back on another QEMU than it ran on. */
function otherQemu(
  { identity }: ShadowManifest,
  program: string,
  version: string,
): string | undefined {
  const { qemuVersion, qemuBuildId, commandLine, machine } = identity;
  if (version === '' || qemuVersion === '') return undefined;
  const buildId = buildIdOf(pathOf(program) ?? '');
  const isOther = buildId !== undefined && qemuBuildId !== undefined && buildId !== qemuBuildId;
  if (version === qemuVersion && !isOther) return undefined;
  const cpu = optionsOf(commandLine).find(({ name }) => name === 'cpu')?.value ?? '';
  const changes = /^(max|host)\b/.test(cpu) ? `; -cpu ${cpu} may be another processor there` : '';
  const which = version === qemuVersion ? 'another build of it' : version;
  const refuses = isAtLeast(version, NORMAL_QUEUES_SINCE) && machine?.largeQueues === true;
  const queues = refuses ? '; its virtio queues may be too large for that' : '';
  return `it ran on QEMU ${qemuVersion} and comes back on ${which}${changes}${queues}`;
}

/** Returns how the QEMU that ran is started. @throws UmbraError E_QEMU_NOT_KEPT */
function requireKept({ identity }: ShadowManifest, clusterDirectory: string): string[] {
  const { qemuBuildId, commandLine } = identity;
  const [installed = ''] = commandLine;
  if (qemuBuildId === undefined) throw notKept('the epoch does not say which QEMU it was');
  if (buildIdOf(pathOf(installed) ?? '') === qemuBuildId) return [installed];
  const kept = keptProgram(clusterDirectory, qemuBuildId);
  if (kept === undefined) throw notKept(`build ${qemuBuildId} is not in the cluster’s folder`);
  return kept;
}

function notKept(message: string): UmbraError {
  return new UmbraError({ code: 'E_QEMU_NOT_KEPT', message });
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
  const found = wanted === 'stream' ? undefined : memoryOf(commandLine, main.id);
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
    byStream: undefined,
    note: undefined,
    disks: [],
    mappedDirectory: memory && dirname(main.path),
  };
}

/** Returns where a domain's memory can be put, or why it cannot be mapped. */
function memoryOf(commandLine: readonly string[], idstr: string) {
  if (commandLine.length > 0) return domainMemory(commandLine, idstr);
  return 'the relay that kept it does not know where libvirt puts its memory';
}

/** Returns the full image of main RAM: that of the root of the shadow's chain. */
function mainRamImage(shadow: SealedShadow): MappedRam {
  const own = shadow.manifest.blocks[mainRamIndex(shadow.manifest)];
  if (own === undefined) throw new Error('a shadow without RAM');
  for (const { directory, manifest } of chainOf(shadow)) {
    const block = manifest.blocks.find(({ idstr }) => idstr === own.idstr);
    if (block?.kind !== 'full') continue;
    return { id: block.idstr, bytes: block.bytes, path: join(directory, block.file) };
  }
  throw new Error('a delta without its base');
}

function cannotMap(obstacle: string): UmbraError {
  return new UmbraError({ code: 'E_MAP_UNSUPPORTED', message: `cannot map: ${obstacle}` });
}
