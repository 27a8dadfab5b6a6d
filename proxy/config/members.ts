/**
 * The members of a cluster.yaml: the VM that each of them is. PURE.
 *
 *     command             Umbra starts it; its QMP socket is the one that command makes, or `qmp`
 *     qmp                 it runs already
 *     libvirt, domain     libvirt runs it; its QMP socket is one that Umbra makes
 *
 * In `command`, `qmp` and `network.switch`, `{dir}` stands for the member's own folder, `{name}`
 * for its name and `{index}` for its place in the list, from 0.
 */
import { resolve } from 'node:path';
import { qmpSocketOf } from '../command-line/monitors.ts';
import { memberFile, memberFolder } from '../host/folders.ts';
import { SOCKET_PATH_BYTES_MAX } from '../host/linux.ts';
import type { MemberConfig } from '../protocol/cluster.ts';
import { NAME, NAME_HELP } from './option.ts';
import type { ClusterFile } from './schema.ts';

type MemberFile = ClusterFile['members'][number];

export interface ResolvedMembers {
  readonly members: readonly MemberConfig[];
  /** Each by its path in the file; if there are any, `members` are of no use. */
  readonly problems: readonly string[];
}

/**
 * Resolves the members of a file.
 * @param directory the cluster's own folder
 * @param base the folder of the file: relative paths are relative to it
 */
export function resolveMembers(
  files: readonly MemberFile[],
  directory: string,
  base: string,
): ResolvedMembers {
  const problems: string[] = [];
  const members = files.map((file, index) => {
    const isDomain = file.libvirt !== undefined || file.domain !== undefined;
    const name = file.name ?? file.domain ?? '';
    if (!NAME.test(name)) {
      problems.push(`members[${index}].name: ${JSON.stringify(name)} ${NAME_HELP}`);
    }
    const own = memberFolder(directory, name);
    const member = isDomain
      ? domainMember(file, name, own, base)
      : ownMember(file, index, own, base);
    if (isDomain) problems.push(...domainProblems(file, index));
    problems.push(...socketProblems(member, index));
    return member;
  });
  return { members, problems: [...problems, ...duplicates(members)] };
}

/** Fills in the placeholders of a text. */
export function fillIn(
  text: string,
  { directory, name }: Pick<MemberConfig, 'directory' | 'name'>,
  index: number,
): string {
  return text
    .replaceAll('{dir}', directory)
    .replaceAll('{name}', name)
    .replaceAll('{index}', String(index));
}

function ownMember(file: MemberFile, index: number, directory: string, base: string): MemberConfig {
  const { name = '' } = file;
  const fill = (text: string) => fillIn(text, { directory, name }, index);
  const command = file.command?.map(fill);
  const workingDirectory = resolve(base, file.workingDirectory ?? '.');
  const given = file.qmp === undefined ? undefined : resolve(base, fill(file.qmp));
  // In a command line, a relative path is relative to the folder QEMU runs in.
  const made = command && qmpSocketOf(command);
  const qmp = given ?? (made === undefined ? '' : resolve(workingDirectory, made));
  return { name, command, qmp, workingDirectory, directory };
}

function domainMember(
  { libvirt: uri = '', domain = '' }: MemberFile,
  name: string,
  directory: string,
  base: string,
): MemberConfig {
  const qmp = memberFile(directory, 'monitor');
  const libvirt = { uri, domain };
  return { name, command: undefined, qmp, workingDirectory: base, directory, libvirt };
}

function socketProblems({ command, qmp, directory }: MemberConfig, index: number): string[] {
  const at = `members[${index}]`;
  if (qmp === '') {
    return command === undefined
      ? [`${at}: give either command (Umbra starts the VM) or qmp (it runs already)`]
      : [`${at}.command: has no -qmp unix:PATH,server=on,wait=off; add it, or give qmp`];
  }
  return [[`${at}.qmp`, qmp] as const, [at, memberFile(directory, 'migration')] as const].flatMap(
    ([where, path]) => {
      const bytes = Buffer.byteLength(path);
      if (bytes <= SOCKET_PATH_BYTES_MAX) return [];
      const limit = `too long for a unix socket (${SOCKET_PATH_BYTES_MAX})`;
      return [`${where}: ${bytes} bytes are ${limit}: ${path}`];
    },
  );
}

/** Finds options that contradict libvirt: it starts its domains and reaches them itself. */
function domainProblems({ libvirt, domain, command, qmp }: MemberFile, index: number): string[] {
  const at = `members[${index}]`;
  const problems: string[] = [];
  if (libvirt === undefined)
    problems.push(`${at}.libvirt: give the URI of the libvirt of ${domain}`);
  if (domain === undefined) problems.push(`${at}.domain: give the name of a domain of ${libvirt}`);
  if (command !== undefined) {
    problems.push(`${at}.command: libvirt starts its domains itself; leave command out`);
  }
  if (qmp !== undefined) {
    problems.push(`${at}.qmp: libvirt has the monitor; leave qmp out, or libvirt and domain`);
  }
  return problems;
}

function duplicates(members: readonly MemberConfig[]): string[] {
  const names = members.map(({ name }) => name);
  return names.flatMap((name, index) =>
    names.indexOf(name) === index
      ? []
      : [`members[${index}].name: ${name} is the name of another member; choose another name`],
  );
}
