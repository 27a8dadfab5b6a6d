/**
 * Looks into a recorded migration stream without a shadow: no page is kept, so a file of any size
 * takes the same memory. XBZRLE pages are checked against an empty base, since only their
 * structure matters here.
 */
import { createReadStream } from 'node:fs';
import type { StreamCounters } from '../../proxy/stream/counters.ts';
import { PrecopyDecoder, type StreamMode } from '../../proxy/stream/decoder.ts';
import { StreamError } from '../../proxy/stream/errors.ts';
import type { Phase } from '../../proxy/stream/phase.ts';
import type { PrecopyResult, PrecopySink, RamBlock } from '../../proxy/stream/sink.ts';
import { type DeviceExtent, parseVmdesc, walkDevices } from '../../proxy/stream/vmdesc.ts';

/** Sections listed one by one; the rest is only counted. A long migration has millions. */
const SECTIONS_LISTED = 10_000;
const CHUNK_BYTES = 1024 * 1024;

export interface BlockReport extends RamBlock {
  /** Page items, by kind; a page sent twice counts twice. */
  pages: number;
  zeroPages: number;
}

export interface StreamReport {
  readonly phase: Phase;
  /** Reason why the stream was refused, if it was. */
  readonly error?: { readonly code: string; readonly message: string; readonly offset: number };
  readonly machineType: string;
  readonly pageSize: number;
  readonly sections: readonly { readonly name: string; readonly offset: number }[];
  readonly sectionCount: number;
  readonly blocks: readonly BlockReport[];
  readonly counters: Readonly<StreamCounters>;
  /** Bytes; undefined if the stream did not get there. */
  readonly deviceStateBytes?: number;
  readonly vmdescBytes?: number;
  /** Devices that VMDESC describes and the walk found; offsets from the first FULL section. */
  readonly devices: readonly DeviceExtent[];
  /** The walk met every device and the EOF byte. */
  readonly devicesExact: boolean;
}

/**
 * Reads a recorded stream. A refused stream gives a report with `error`.
 * @throws Error of node:fs if the file cannot be read
 */
export async function inspectStream(
  path: string,
  mode: StreamMode = 'precopy',
): Promise<StreamReport> {
  const survey = new Survey();
  const decoder = new PrecopyDecoder(survey, {}, { mode });
  let error: StreamReport['error'];
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
      decoder.write(chunk);
    }
    decoder.end();
  } catch (cause) {
    if (!(cause instanceof StreamError)) throw cause;
    error = { code: cause.code, message: cause.message, offset: cause.offset };
  }
  const { machineType, pageSize, sections, sectionCount, result } = survey;
  const vmdesc = parseVmdesc(result?.vmdesc ?? '');
  const walk =
    result !== undefined && vmdesc !== undefined
      ? walkDevices(result.deviceState, vmdesc)
      : { exact: false, devices: [] };
  return {
    phase: decoder.phase,
    ...(error !== undefined && { error }),
    machineType,
    pageSize,
    sections,
    sectionCount,
    blocks: survey.list,
    counters: { ...decoder.counters },
    ...(result !== undefined && { deviceStateBytes: result.deviceState.length }),
    ...(result?.vmdesc !== undefined && { vmdescBytes: Buffer.byteLength(result.vmdesc) }),
    devices: walk.devices,
    devicesExact: walk.exact,
  };
}

class Survey implements PrecopySink {
  machineType = '';
  pageSize = 0;
  list: BlockReport[] = [];
  readonly sections: { name: string; offset: number }[] = [];
  sectionCount = 0;
  result: PrecopyResult | undefined;

  machine(machineType: string, pageSize: number): void {
    this.machineType = machineType;
    this.pageSize = pageSize;
  }

  blocks(blocks: readonly RamBlock[]): void {
    this.list = blocks.map((block) => ({ ...block, pages: 0, zeroPages: 0 }));
  }

  page(block: number): void {
    const report = this.list[block];
    if (report !== undefined) report.pages++;
  }

  zero(block: number): void {
    const report = this.list[block];
    if (report !== undefined) report.zeroPages++;
  }

  load(_block: number, _offset: number, into: Uint8Array): void {
    into.fill(0);
  }

  returnPath(): void {}
  ping(): void {}
  ramEnd(): void {}

  complete(result: PrecopyResult): void {
    this.result = result;
  }

  section(name: string, offset: number): void {
    this.sectionCount++;
    if (this.sections.length < SECTIONS_LISTED) this.sections.push({ name, offset });
  }
}
