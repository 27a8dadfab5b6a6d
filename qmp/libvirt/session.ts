/**
 * A bridge's connection to a domain's QEMU (monitor-bridge.ts), of one of two kinds:
 *
 *     libvirt-session.ts   libvirt's own monitor, by way of libvirt
 *     direct-session.ts    a monitor of QEMU's, directly
 */
import type { LibvirtError } from './errors.ts';
import type { MonitorEvent } from './monitor-lines.ts';

export type Json = Readonly<Record<string, unknown>>;

export interface MonitorSession {
  /** QMP greeting for the clients. */
  readonly greeting: Json;
  /**
   * Runs a command; `qmp_capabilities` is the bridge's.
   * @returns QEMU's answer, a refusal included
   * @throws LibvirtError when no answer comes
   */
  execute(execute: string, args: unknown): Promise<Json>;
  /** Ends the session without calling `onGone`. Idempotent. */
  close(): void;
}

export interface SessionOwner {
  onEvent(event: MonitorEvent): void;
  /** Reports that the session has ended without `close`. Called once. */
  onGone(why: LibvirtError): void;
}

export interface DomainAddress {
  readonly uri: string;
  readonly domain: string;
}
