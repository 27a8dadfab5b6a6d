/**
 * What a bridge (monitor-bridge.ts) asks a domain's QEMU through, while it lasts:
 *
 *     libvirt-session.ts   libvirt's own monitor, by way of libvirt
 *     direct-session.ts    a monitor of QEMU's that we are connected to ourselves
 */
import type { LibvirtError } from './errors.ts';
import type { MonitorEvent } from './monitor-lines.ts';

export type Json = Readonly<Record<string, unknown>>;

export interface MonitorSession {
  /** QMP's, as a client is to get it. */
  readonly greeting: Json;
  /**
   * Runs a command, `qmp_capabilities` apart.
   * @returns QEMU's answer, a refusal included @throws LibvirtError when there is none
   */
  execute(execute: string, args: unknown): Promise<Json>;
  /** Idempotent; `onGone` is not called. */
  close(): void;
}

export interface SessionOwner {
  onEvent(event: MonitorEvent): void;
  /** It has ended by itself. Called once. */
  onGone(why: LibvirtError): void;
}

export interface DomainAddress {
  readonly uri: string;
  readonly domain: string;
}
