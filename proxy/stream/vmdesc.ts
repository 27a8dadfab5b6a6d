/**
 * VMDESC: the JSON with which QEMU describes its device state, after the fact.
 *
 *   { "page_size": 4096, "devices": [ { "name", "instance_id", "fields": [ … ],
 *                                       "subsections": [ … ] } … ] }
 *
 * FULL sections carry no length; the sizes in here give the only way to walk them
 * (migration/vmstate.c; scripts/analyze-migration.py unfolds them the same way):
 *
 *   body = Σ fields size × (array_len or 1)  +  Σ subsections (6 + length of name + body)
 *
 * The size of a struct field covers what is nested in it. QEMU before 10.0 describes arrays with
 * NULL pointers wrongly, so a failed walk says nothing against the stream: keep it opaque.
 */
import { QEMU_VM_EOF, QEMU_VM_SECTION_FOOTER, QEMU_VM_SECTION_FULL } from './wire.ts';

/** Nesting of subsections; QEMU has 4 or so. Guards the stack against a hostile description. */
const DEPTH_MAX = 32;

/** One device's FULL section within the device state. */
export interface DeviceExtent {
  readonly name: string;
  readonly instanceId: number;
  readonly sectionId: number;
  readonly versionId: number;
  /** Offset of the section's type byte from the start of the device state, bytes. */
  readonly offset: number;
  /** Whole section with header and footer, bytes. */
  readonly length: number;
}

export interface DeviceWalk {
  /** Every described device was found where it should be, and then the EOF byte at the very end. */
  readonly exact: boolean;
  /** Devices met until then. */
  readonly devices: readonly DeviceExtent[];
}

export interface Vmdesc {
  readonly pageSize: number;
  readonly devices: readonly Record<string, unknown>[];
}

/** Parses a description; undefined if the text is not JSON, or is not one. */
export function parseVmdesc(text: string): Vmdesc | undefined {
  const json = parseJson(text);
  if (!isRecord(json) || !Array.isArray(json.devices) || typeof json.page_size !== 'number') {
    return undefined;
  }
  const devices = json.devices.filter(isRecord);
  if (devices.length !== json.devices.length) return undefined;
  return { pageSize: json.page_size, devices };
}

/** Parses JSON; undefined if the text is not JSON, whose values never are undefined. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Splits the device state (first FULL to EOF byte) as the description says. Never throws. */
export function walkDevices(deviceState: Uint8Array, vmdesc: Vmdesc): DeviceWalk {
  const bytes = Buffer.from(deviceState.buffer, deviceState.byteOffset, deviceState.byteLength);
  const devices: DeviceExtent[] = [];
  let at = 0;
  for (const description of vmdesc.devices) {
    const device = extent(bytes, at, description);
    if (device === undefined) return { exact: false, devices };
    devices.push(device);
    at += device.length;
  }
  return { exact: at === bytes.length - 1 && bytes[at] === QEMU_VM_EOF, devices };
}

/** Tells whether a section header is that of the described device. */
export function matchHeader(bytes: Buffer, at: number, device: Record<string, unknown>): boolean {
  if (at + 6 > bytes.length || bytes[at] !== QEMU_VM_SECTION_FULL) return false;
  const nameEnd = at + 6 + bytes.readUInt8(at + 5);
  if (nameEnd + 8 > bytes.length) return false;
  const name = bytes.toString('latin1', at + 6, nameEnd);
  return name === device.name && bytes.readUInt32BE(nameEnd) === device.instance_id;
}

function extent(
  bytes: Buffer,
  at: number,
  device: Record<string, unknown>,
): DeviceExtent | undefined {
  if (!matchHeader(bytes, at, device)) return undefined;
  const nameEnd = at + 6 + bytes.readUInt8(at + 5);
  const footer = nameEnd + 8 + bodyLength(device, 0);
  // NaN, from a field without a size, fails this comparison too.
  if (!(footer + 5 <= bytes.length)) return undefined;
  const sectionId = bytes.readUInt32BE(at + 1);
  if (bytes[footer] !== QEMU_VM_SECTION_FOOTER) return undefined;
  if (bytes.readUInt32BE(footer + 1) !== sectionId) return undefined;
  return {
    name: bytes.toString('latin1', at + 6, nameEnd),
    instanceId: bytes.readUInt32BE(nameEnd),
    sectionId,
    versionId: bytes.readUInt32BE(nameEnd + 4),
    offset: at,
    length: footer + 5 - at,
  };
}

/** Returns the bytes of a description's fields and subsections; NaN if it makes no sense. */
function bodyLength(description: Record<string, unknown>, depth: number): number {
  if (depth > DEPTH_MAX) return Number.NaN;
  let total = 0;
  for (const field of list(description.fields)) {
    if (!isRecord(field)) return Number.NaN;
    total += natural(field.size) * natural(field.array_len ?? 1);
  }
  for (const subsection of list(description.subsections)) {
    if (!isRecord(subsection) || typeof subsection.vmsd_name !== 'string') return Number.NaN;
    total += 6 + subsection.vmsd_name.length + bodyLength(subsection, depth + 1);
  }
  return total;
}

function natural(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    ? value
    : Number.NaN;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
