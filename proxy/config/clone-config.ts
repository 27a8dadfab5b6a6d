/**
 * The cluster.yaml of a clone, from its source's and from the command lines recorded in the epoch.
 * PURE.
 *
 *     copied     round, store, epochs, restore: as they were written
 *     made       cluster, members (command, qmp, workingDirectory), network
 *     left out   checkpoint: a clone takes checkpoints only when asked to
 *                persist: two clusters must not write to one folder outside of their own
 *
 * Umbra starts the members of a clone, whichever program started those of the source.
 */
import { parse, stringify } from 'yaml';
import { type ClonedLine, cloneCommandLine } from '../command-line/clone.ts';
import { qmpSocketOf } from '../command-line/monitors.ts';
import { toFailure, UmbraError } from '../failure/failure.ts';
import type { CloneOrigin } from '../protocol/agent.ts';

const TAKEN_OVER = ['round', 'store', 'epochs', 'restore'] as const;
const PLACEHOLDER = /\{(dir|name|index)\}/;

/** A member of the epoch, with the command line it was started with. */
export interface RecordedMember {
  readonly name: string;
  readonly commandLine: readonly string[];
  readonly workingDirectory: string;
  /** The member's folder in the clone. */
  readonly directory: string;
}

export interface CloneConfig {
  readonly text: string;
  /** Network cards that are connected to nothing, as `MEMBER: OPTION`. */
  readonly unplugged: readonly string[];
}

/**
 * Derives the cluster.yaml of a clone.
 * @param sourceText the source's cluster.yaml
 * @throws UmbraError E_CLONE_NETWORK, E_CLONE_DISK, E_CLONE_COMMAND, naming member and option
 */
export function cloneConfig(
  clone: string,
  origin: CloneOrigin,
  sourceText: string,
  members: readonly RecordedMember[],
): CloneConfig {
  const unplugged: string[] = [];
  const sockets: string[] = [];
  const derived = members.map(({ name, commandLine, workingDirectory, directory }) => {
    const qmp = origin.source.members.find((member) => member.name === name)?.qmp ?? '';
    const options = { ...cloneOptions(origin, clone), workingDirectory, directory };
    try {
      const line = cloneCommandLine(commandLine, options);
      unplugged.push(...line.unplugged.map((card) => `${name}: ${card}`));
      sockets.push(...line.network);
      const command = requirePlain(line.commandLine);
      return { name, command, qmp: monitorOf(line, qmp), workingDirectory };
    } catch (error) {
      throw UmbraError.received(toFailure(error, { member: name, where: 'clone' }), error);
    }
  });
  const whole = parse(sourceText) as Record<string, unknown>;
  const kept = TAKEN_OVER.flatMap((key) => (key in whole ? [[key, whole[key]]] : []));
  const text = stringify({
    cluster: clone,
    members: derived,
    ...Object.fromEntries(kept),
    ...(sockets.length > 0 && { network: { switch: sockets } }),
  });
  return { text, unplugged };
}

/**
 * Returns the path of the monitor that the source uses. If the source knows it by another path (a
 * symbolic link), any QMP monitor will do.
 */
function monitorOf({ paths, commandLine }: ClonedLine, qmp: string): string {
  const path = paths.get(qmp) ?? qmpSocketOf(commandLine);
  if (path !== undefined) return path;
  const message = `no option of its command line makes its monitor ${qmp}`;
  const hint = 'Start the VM with -qmp unix:PATH,server=on,wait=off.';
  throw new UmbraError({ code: 'E_CLONE_COMMAND', message, hint });
}

/** Refuses words that a cluster.yaml would fill in. @throws UmbraError E_CLONE_COMMAND */
function requirePlain(commandLine: readonly string[]): readonly string[] {
  const word = commandLine.find((one) => PLACEHOLDER.test(one));
  if (word === undefined) return commandLine;
  const message = `${word}: {dir}, {name} and {index} cannot be written to a cluster.yaml`;
  const hint = 'Start the source without these words in its command line, and take an epoch.';
  throw new UmbraError({ code: 'E_CLONE_COMMAND', message, hint });
}

/** Returns the options by which the command lines of all members are derived. */
export function cloneOptions({ source, disconnect }: CloneOrigin, clone: string) {
  const { directory: sourceDirectory, switchSockets: switched } = source;
  return { clone, sourceDirectory, switched, disconnect };
}
