/**
 * `migrate unix:PATH` for a QEMU that cannot reach PATH, from its sandbox or as its own user: Umbra
 * connects, and QEMU gets the connection through libvirt.
 *
 *     Umbra ── connect ──▶ PATH       virsh --pass-fds: getfd NAME ──▶ QEMU       migrate fd:NAME
 *
 * A descriptor belongs to the monitor it came through, so `migrate` has to use the same one.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { LibvirtError } from './errors.ts';
import { monitorAnswer } from './monitor-lines.ts';
import type { DomainAddress, Json } from './session.ts';
import { virshWithSocket } from './virsh.ts';

const FD_NAME = 'umbra';

/** Returns the path of a `migrate` to a unix socket; undefined for any other command. */
export function unixPathOf(execute: string, args: unknown): string | undefined {
  const { uri } = (args ?? {}) as { readonly uri?: unknown };
  if (execute !== 'migrate' || typeof uri !== 'string') return undefined;
  return /^unix:(.+)$/.exec(uri)?.[1];
}

/**
 * Connects to `path` and hands QEMU the connection.
 * @returns the `migrate` command, to be sent through libvirt
 * @throws LibvirtError
 */
export async function handOver({ uri, domain }: DomainAddress, path: string, args: unknown) {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    const getfd = JSON.stringify({ execute: 'getfd', arguments: { fdname: FD_NAME } });
    const words = ['qemu-monitor-command', '--domain', domain, '--pass-fds', '3', '--cmd', getfd];
    const answer = monitorAnswer(await virshWithSocket(uri, words, socket));
    if (answer === undefined || !('return' in answer)) {
      throw new LibvirtError('E_LIBVIRT', `getfd: ${JSON.stringify(answer)}`, uri);
    }
    return { execute: 'migrate', arguments: { ...(args as Json), uri: `fd:${FD_NAME}` } };
  } finally {
    socket.destroy(); // QEMU has a descriptor of its own now
  }
}
