/**
 * Counts of messages that the guests' `mesh` (tools/guest/src/mesh.c) has sent and received. They
 * are printed by a running guest, or found in the image of its memory at the instant of a cut.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { openShadow, SealedRam } from '../../shadow/index.ts';
import type { Testbed } from '../../tools/testbed/testbed.ts';

export const PROTOCOLS = ['tcp', 'udp'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** Highest numbers, by protocol. */
export type Count = Readonly<Record<Protocol, number>>;

export interface MeshCounts {
  readonly node: number;
  /** Counts by peer. The entry of the node itself is meaningless. */
  readonly peers: readonly { readonly sent: Count; readonly received: Count }[];
}

/** Message that was received, and by that instant had not been sent. */
export interface Orphan {
  readonly from: number;
  readonly to: number;
  readonly protocol: Protocol;
  readonly sent: number;
  readonly received: number;
}

const PAGE_BYTES = 4096;
const MAGIC = Buffer.from('um_mesh counters');
const HEADER_BYTES = MAGIC.length + 16;
const PEER_BYTES = 32;
const PEERS_MAX = 64;
const POLL_MS = 50;
const WAIT_LIMIT_MS = 300_000;

/**
 * Returns the messages that break consistency: those a node has received although, at the same
 * instant, their sender had not sent them. A consistent cut of a cluster has none.
 * @param all counts of every node, all of one instant
 * @throws Error when a node's counts are missing or given twice: then nothing is proven
 */
export function orphans(all: readonly MeshCounts[]): Orphan[] {
  const nodes = Math.max(0, ...all.map(({ peers }) => peers.length));
  if (nodes === 0) throw new Error('no counts at all');
  const byNode = new Map(all.map((counts) => [counts.node, counts]));
  const found: Orphan[] = [];
  for (let to = 0; to < nodes; to++) {
    for (let from = 0; from < nodes; from++) {
      if (from === to) continue;
      const sent = byNode.get(from)?.peers[to]?.sent;
      const received = byNode.get(to)?.peers[from]?.received;
      if (sent === undefined || received === undefined) {
        throw new Error(`n${from} to n${to}: not every count is there`);
      }
      for (const protocol of PROTOCOLS) {
        if (received[protocol] <= sent[protocol]) continue;
        found.push({ from, to, protocol, sent: sent[protocol], received: received[protocol] });
      }
    }
  }
  return found;
}

/** Describes an orphan: `n0 to n2 by udp: 120 received, 113 sent`. */
export function describeOrphan({ from, to, protocol, sent, received }: Orphan): string {
  return `n${from} to n${to} by ${protocol}: ${received} received, ${sent} sent`;
}

/** Decodes the counts if this is the page that holds them (drawn in mesh.c). */
export function decodeMeshPage(page: Buffer): MeshCounts | undefined {
  if (page.length !== PAGE_BYTES || page.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) {
    return undefined;
  }
  const number = (at: number) => Number(page.readBigUInt64LE(at));
  const [node, nodes] = [number(MAGIC.length), number(MAGIC.length + 8)];
  if (nodes > PEERS_MAX || node >= nodes) return undefined;
  const peers = Array.from({ length: nodes }, (_, peer) => {
    const at = HEADER_BYTES + peer * PEER_BYTES;
    return {
      sent: { tcp: number(at), udp: number(at + 8) },
      received: { tcp: number(at + 16), udp: number(at + 24) },
    };
  });
  return { node, peers };
}

/**
 * Finds the counts in a sealed shadow. They are those of the instant of the cut, for no VM was
 * restored and resumed to read them.
 * @throws Error unless they are found exactly once
 */
export async function countsInShadow(directory: string, sha256: string): Promise<MeshCounts> {
  const shadow = await openShadow(directory, sha256);
  const ram = await SealedRam.open(shadow);
  const found: MeshCounts[] = [];
  try {
    const page = Buffer.alloc(PAGE_BYTES);
    for (const [block, { bytes }] of shadow.manifest.blocks.entries()) {
      for (let offset = 0; offset + PAGE_BYTES <= bytes; offset += PAGE_BYTES) {
        if (!ram.read(block, offset, page, 0)) continue;
        const counts = decodeMeshPage(page);
        if (counts !== undefined) found.push(counts);
      }
    }
  } finally {
    ram.close();
  }
  const [counts] = found;
  if (counts !== undefined && found.length === 1) return counts;
  throw new Error(`${directory}: ${found.length} pages of counters instead of one`);
}

/** Starts `mesh` in every guest, and waits until each has received from each by both protocols. */
export async function startMesh(bed: Testbed, rate: number): Promise<void> {
  const { nodes } = bed;
  for (let node = 0; node < nodes; node++) {
    const options = `--node ${node} --nodes ${nodes} --rate ${rate}`;
    await bed.shell(node, `mesh ${options} </dev/null >/run/mesh.log 2>&1 &`);
  }
  for (let node = 0; node < nodes; node++) {
    await countsReach(bed, node, ({ peers }) => {
      return peers.every(({ received }, peer) => peer === node || (received.tcp && received.udp));
    });
  }
}

/** Asks a running guest for its counts. @throws Error with the reason when `mesh` has ended */
export async function countsNow(bed: Testbed, node: number): Promise<MeshCounts> {
  const text = await bed.shell(node, 'pidof mesh >/dev/null && mesh show || cat /run/mesh.log');
  return parseMeshShow(text, node, bed.nodes);
}

/** Parses the output of `mesh show`, a line a peer and protocol: `n2 udp sent 120 received 113`. */
export function parseMeshShow(text: string, node: number, nodes: number): MeshCounts {
  const nothing = () => ({ sent: { tcp: 0, udp: 0 }, received: { tcp: 0, udp: 0 } });
  const peers = Array.from({ length: nodes }, nothing);
  let lines = 0;
  for (const match of text.matchAll(/^n(\d+) (tcp|udp) sent (\d+) received (\d+)$/gm)) {
    const counts = peers[Number(match[1])];
    const protocol = match[2] as Protocol;
    if (counts === undefined) continue;
    counts.sent[protocol] = Number(match[3]);
    counts.received[protocol] = Number(match[4]);
    lines++;
  }
  if (lines === (nodes - 1) * PROTOCOLS.length) return { node, peers };
  throw new Error(`n${node}: mesh tells no counts: ${text}`);
}

/** Waits until a guest's counts satisfy a predicate. */
export async function countsReach(
  bed: Testbed,
  node: number,
  reached: (counts: MeshCounts) => unknown,
): Promise<MeshCounts> {
  for (const end = performance.now() + WAIT_LIMIT_MS; ; ) {
    const counts = await countsNow(bed, node);
    if (reached(counts)) return counts;
    if (performance.now() > end) {
      throw new Error(`n${node}: it never came to that: ${JSON.stringify(counts)}`);
    }
    await delay(POLL_MS);
  }
}
