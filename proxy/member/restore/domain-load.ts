/**
 * Brings a shadow back as a domain of libvirt's, paused.
 *
 *     virsh restore ◀── pipe ── head, and all before the first page │ QEMU has made its vCPUs
 *                                   ├── our image, privately ──▶ map: device state, and what
 *                                   │                            differs from the image
 *                                   └── a file of its own ─────▶ libvirt: all of it
 *
 * So it is known, not foreseen, what QEMU has mapped when the first page is sent. A libvirt that
 * refuses the pipe gets the whole image as a file.
 */
import { rm } from 'node:fs/promises';
import { virsh } from '../../../qmp/libvirt/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { memberFile } from '../../host/folders.ts';
import { MemoryLink } from '../../libvirt/memory-link.ts';
import { findDomainProcess, hasVcpus } from '../../libvirt/qemu-process.ts';
import { PIPE_ALIGNMENT, saveImageHead } from '../../libvirt/save-image.ts';
import { SavePipe } from '../../libvirt/save-pipe.ts';
import type { LibvirtDomain } from '../../protocol/cluster.ts';
import { DOMAIN_LOAD_LIMIT_MS, type DomainLoaded, type DomainPlan } from '../../protocol/member.ts';
import { encodePrecopy } from '../../stream/encoder.ts';
import { readyLoad } from './load.ts';
import { exportSaveImage } from './save-image-export.ts';

/** A restore is tried from a pipe, then from a file. */
const RESTORE_LIMIT_MS = DOMAIN_LOAD_LIMIT_MS / 2;
/**
 * Time between two looks for the domain's QEMU. Each reads all of /proc, and meanwhile nothing puts
 * the image into the folder that libvirt has just made.
 */
const LOOK_FOR_QEMU_MS = 40;

export interface DomainLoad {
  readonly domain: LibvirtDomain;
  readonly plan: DomainPlan;
  readonly shadowDirectory: string;
  /** A folder that libvirt can enter. */
  readonly directory: string;
  /** Ends the load; libvirt then destroys what it has started. */
  readonly signal: AbortSignal;
}

/** @throws LibvirtError; UmbraError E_MAP_UNSUPPORTED, E_EXPORT; ShadowError. No domain is left. */
export async function loadDomain(load: DomainLoad): Promise<DomainLoaded> {
  try {
    return await loadThroughPipe(load);
  } catch (error) {
    const { code, message } = toFailure(error, {});
    const refused = code === 'E_LIBVIRT' || code === 'E_MAP_UNSUPPORTED';
    if (load.plan.insists || load.signal.aborted || !refused) throw error;
    return { bytes: await loadFromFile(load), mode: 'libvirt', reason: message };
  }
}

async function loadThroughPipe(load: DomainLoad): Promise<DomainLoaded> {
  const { domain: address, plan, directory, signal } = load;
  const pipe = await SavePipe.make(memberFile(directory, 'restorePipe'));
  const hangUp = () => pipe.close();
  signal.addEventListener('abort', hangUp);
  const link = plan.memory && new MemoryLink(plan.memory);
  const restoring = virsh(address.uri, ['restore', '--paused', pipe.path], RESTORE_LIMIT_MS);
  const feed = new Feed(pipe, link, load);
  // A libvirt that reads ahead sees the end only when the pipe is closed.
  const feeding = feed.run().then(() => pipe.close());
  try {
    await Promise.race([feeding, restoring]); // the first that fails
    await restoring;
    const { bytes, mode, reason } = feed;
    return { bytes, mode, ...(reason !== undefined && { reason }) };
  } finally {
    pipe.close();
    await Promise.allSettled([restoring, feeding]); // libvirt destroys what it could not load
    link?.remove();
    signal.removeEventListener('abort', hangUp);
  }
}

/** Writes head and stream. Which stream depends on what QEMU has mapped before the first page. */
class Feed {
  readonly #pipe: SavePipe;
  readonly #link: MemoryLink | undefined;
  readonly #load: DomainLoad;
  readonly #uuid: string;
  bytes = 0;
  mode: DomainLoaded['mode'] = 'libvirt';
  reason: string | undefined;

  constructor(pipe: SavePipe, link: MemoryLink | undefined, load: DomainLoad) {
    this.#pipe = pipe;
    this.#link = link;
    this.#load = load;
    this.#uuid = /<uuid>([^<]+)<\/uuid>/.exec(load.plan.xml)?.[1] ?? '';
  }

  async run(): Promise<void> {
    const { plan, shadowDirectory } = this.#load;
    const head = saveImageHead(plan.xml, PIPE_ALIGNMENT);
    await this.#write(head);
    await this.#pipe.read();
    const isThere = () => this.#qemu() !== undefined;
    await this.#pipe.until(() => this.#pipe.opens > 1 || isThere(), LOOK_FOR_QEMU_MS);
    if (this.#pipe.opens > 1 && !isThere()) await this.#write(head);
    const lean = await readyLoad(shadowDirectory, this.#link === undefined ? 'stream' : 'map');
    try {
      const chunks = encodePrecopy(lean.source, lean.options);
      await this.#write(openingOf(chunks));
      if (this.#link !== undefined) await this.#inspect(this.#link);
      if (this.#link === undefined || this.mode === 'map') return await this.#writeAll(chunks);
    } finally {
      lean.ram.close();
    }
    const whole = await readyLoad(shadowDirectory, 'stream');
    try {
      const chunks = encodePrecopy(whole.source, whole.options);
      openingOf(chunks); // the same, and written
      await this.#writeAll(chunks);
    } finally {
      whole.ram.close();
    }
  }

  /** Finds out what QEMU has mapped. @throws UmbraError E_MAP_UNSUPPORTED: the load must end */
  async #inspect(link: MemoryLink): Promise<void> {
    await this.#pipe.until(() => {
      const qemu = this.#qemu();
      return qemu !== undefined && hasVcpus(qemu.pid);
    }, LOOK_FOR_QEMU_MS);
    const use = link.use();
    const { why } = link;
    link.remove();
    if (use === 'private') this.mode = 'map';
    else if (use === 'other' && !this.#load.plan.insists) this.reason = why;
    else {
      const reason = use === 'shared' ? 'QEMU shares it, and would write into the image' : why;
      throw new UmbraError({ code: 'E_MAP_UNSUPPORTED', message: `cannot map: ${reason}` });
    }
  }

  #qemu() {
    return findDomainProcess(this.#uuid);
  }

  async #writeAll(chunks: Iterable<Uint8Array>): Promise<void> {
    for (const chunk of chunks) await this.#write(chunk);
  }

  async #write(chunk: Uint8Array): Promise<void> {
    await this.#pipe.write(chunk);
    this.bytes += chunk.length;
  }
}

/** Returns all before the first page, which does not depend on the pages that follow. */
function openingOf(chunks: Iterator<Uint8Array>): Uint8Array {
  const { value } = chunks.next();
  return value;
}

async function loadFromFile(load: DomainLoad): Promise<number> {
  const { domain: address, plan, shadowDirectory, directory } = load;
  const path = memberFile(directory, 'restoreImage');
  try {
    const bytes = await exportSaveImage({ shadowDirectory, xml: plan.xml, path });
    await virsh(address.uri, ['restore', '--paused', path], RESTORE_LIMIT_MS);
    return bytes;
  } finally {
    await rm(path, { force: true });
  }
}
