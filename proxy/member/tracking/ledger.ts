/**
 * The ledger of a VM that is tracked: what is watched, and which written pages no epoch has yet. It
 * outlives the proxy that keeps it.
 *
 *     FOLDER/tracking.json   {"format": "umbra-tracking", "version": 2,
 *                             "vm": PROCESS, "fd": NUMBER,
 *                             "blocks": [{"idstr", "bytes", "address"}, …],
 *                             "withKvm": BOOL, "watched": BOOL, "since": ROUND, "pending": ROUND}
 *     FOLDER/tracking.owed   u32: 1 while marks are cleared, else 0
 *                            then runs whose marks were cleared: block, page, count     u32 each
 *
 *     vm, fd     QEMU, and the number of its userfaultfd there
 *     watched    every block is watched
 *     since      the round whose cut is the last one known: what was written since is marked, or
 *                owed; absent if that is not known
 *     pending    a round that has sealed all that is owed, and may be published by now
 *
 * A mark that is cleared is known here alone until its page is in an epoch: the pages of a round
 * that fails are owed to the next. A process that dies while it clears leaves the 1: what it has
 * cleared is lost, and a whole capture follows. So it does if the ledger cannot be read.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import * as z from 'zod';
import { type FormatVersion, isReadable, writeFailure } from '../../../shadow/index.ts';
import { memberFile } from '../../host/folders.ts';
import { isAlive, type KnownProcess, processSchema } from '../../host/known-process.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import { commit, knows, type Lineage, pend, UNKNOWN } from './lineage.ts';

const FORMAT: FormatVersion = { name: 'umbra-tracking', version: 2, first: 1 };
const BLOCKS_MAX = 1024;
const MEMORY_KINDS = ['anonymous', 'mapped', 'shared'] as const;

const schema = z.object({
  format: z.literal(FORMAT.name),
  version: z.number().int(),
  requires: z.array(z.string()).max(0).default([]),
  vm: processSchema,
  fd: z.number().int().nonnegative(),
  withKvm: z.boolean(),
  blocks: z
    .array(
      z.object({
        idstr: z.string().min(1).max(255),
        bytes: z.number().int().positive(),
        /** Hexadecimal; absent for memory that is never written. */
        address: z
          .string()
          .regex(/^[0-9a-f]{1,16}$/)
          .optional(),
        memory: z.enum(MEMORY_KINDS).optional(),
      }),
    )
    .min(1)
    .max(BLOCKS_MAX),
  watched: z.boolean().default(false),
  since: z.string().optional(),
  pending: z.string().optional(),
});

type Entry = z.infer<typeof schema>;

/**
 * Kinds of memory.
 *
 *     anonymous   QEMU's own: a page that is not there is zeros
 *     mapped      private, of a file, as after a restore by `map`: a page that is not there is the
 *                 file's
 *     shared      of a file that others may map
 */
export type MemoryKind = (typeof MEMORY_KINDS)[number];

/** A RAM block, and where it is in QEMU; no address: it is never written. */
export interface WatchedBlock {
  readonly idstr: string;
  readonly bytes: number;
  readonly address: bigint | undefined;
  /** Undefined for a block without address. */
  readonly memory: MemoryKind | undefined;
}

/** Pages in a row of a block, by its place in the ledger. */
export interface OwedRun {
  readonly block: number;
  readonly page: number;
  readonly count: number;
}

const WORD_BYTES = 4;
const RUN_WORDS = 3;
const CLEARING = Uint32Array.of(1);
const IDLE = Uint32Array.of(0);

export class Ledger {
  readonly #path: string;
  readonly #owedPath: string;
  #entry: Entry | undefined;
  #owed: number | undefined;
  #isClosed = false;
  /** Bytes of the file of owed runs. */
  #end = WORD_BYTES;

  /** @param directory the member's own */
  constructor(directory: string) {
    this.#path = memberFile(directory, 'tracking');
    this.#owedPath = memberFile(directory, 'trackingOwed');
    this.#entry = readEntry(this.#path);
  }

  /** Returns the number of QEMU's userfaultfd, if this very process is tracked. */
  descriptorOf(vm: KnownProcess): number | undefined {
    const { vm: tracked, fd } = this.#entry ?? {};
    const same = tracked?.pid === vm.pid && tracked.startTime === vm.startTime;
    return same && isAlive(vm) ? fd : undefined;
  }

  /** Tells whether every block is watched. */
  get isWatched(): boolean {
    return this.#entry?.watched === true;
  }

  /** Tells whether the guest's memory is mapped by a hypervisor in the kernel, too. */
  get withKvm(): boolean {
    return this.#entry?.withKvm === true;
  }

  /** Returns the blocks. */
  get blocks(): readonly WatchedBlock[] {
    return (this.#entry?.blocks ?? []).map(({ address, memory, ...block }) => {
      return { ...block, memory, address: address ? BigInt(`0x${address}`) : undefined };
    });
  }

  /** Returns the round whose cut is the last one known, if one is. */
  get since(): string | undefined {
    return this.#entry?.since;
  }

  /**
   * Begins the ledger of a VM, whose cuts are not known yet.
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
   */
  begin(vm: KnownProcess, fd: number, blocks: readonly WatchedBlock[], withKvm: boolean): void {
    this.#write({
      format: FORMAT.name,
      version: FORMAT.version,
      requires: [],
      vm: { pid: vm.pid, startTime: vm.startTime },
      fd,
      withKvm,
      watched: false,
      blocks: blocks.map(({ address, ...block }) => {
        return { ...block, address: address?.toString(16) };
      }),
    });
    this.#clearOwed();
  }

  /** Notes that every block is watched. @throws ShadowError */
  watched(): void {
    if (this.#entry !== undefined) this.#write({ ...this.#entry, watched: true });
  }

  /**
   * Finds out whether all pages written since a cut are known: marked, or owed.
   * @param cut the round of the shadow that the next is to be stored against
   */
  knowsSince(cut: string): boolean {
    if (this.#entry === undefined) return false;
    const known = knows(this.#entry, cut);
    if (known === 'committed') this.commit();
    return known !== 'unknown' && this.#readOwed() !== undefined;
  }

  /** Returns the runs that are owed, in the order in which they were cleared. */
  get owed(): OwedRun[] {
    return this.#readOwed() ?? [];
  }

  /**
   * Forgets the cuts: from now on nothing is known but what is marked.
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
   */
  forget(): void {
    if (this.#entry === undefined) return;
    this.#follow(UNKNOWN);
    this.#clearOwed();
  }

  /**
   * Clears marks, and notes what was cleared.
   * @param clear clears, and returns what it has cleared
   * @throws what `clear` throws, or the file: what is written since the last cut is lost then
   */
  clearing<R extends OwedRun>(clear: () => readonly R[]): readonly R[] {
    const fd = this.#openOwed();
    writeSync(fd, CLEARING, 0, WORD_BYTES, 0);
    const cleared = clear();
    const words = new Uint32Array(cleared.length * RUN_WORDS);
    let at = 0;
    for (const { block, page, count } of cleared) {
      words[at++] = block;
      words[at++] = page;
      words[at++] = count;
    }
    if (words.length > 0) writeSync(fd, words, 0, words.byteLength, this.#end);
    this.#end += words.byteLength;
    writeSync(fd, IDLE, 0, WORD_BYTES, 0);
    return cleared;
  }

  /** Notes that a round has sealed all that is owed. @throws ShadowError */
  pend(round: string): void {
    if (this.#entry !== undefined) this.#follow(pend(this.#entry, round));
  }

  /** Notes that the pending round is committed: its pages are owed no more. @throws ShadowError */
  commit(): void {
    if (this.#entry?.pending === undefined) return;
    this.#follow(commit(this.#entry));
    this.#clearOwed();
  }

  /** Removes the ledger. Idempotent. */
  remove(): void {
    this.close();
    rmSync(this.#path, { force: true });
    rmSync(this.#owedPath, { force: true });
    this.#entry = undefined;
  }

  /** Closes the file of owed runs: it is not opened again. Idempotent. */
  close(): void {
    if (this.#owed !== undefined) closeSync(this.#owed);
    this.#owed = undefined;
    this.#isClosed = true;
  }

  #follow({ since, pending }: Lineage): void {
    if (this.#entry !== undefined) this.#write({ ...this.#entry, since, pending });
  }

  #write(entry: Entry): void {
    const draft = `${this.#path}.tmp`;
    try {
      writeFileSync(draft, JSON.stringify(entry), { mode: 0o600 });
      renameSync(draft, this.#path);
    } catch (cause) {
      throw writeFailure(this.#path, cause);
    }
    this.#entry = entry;
  }

  /** Empties the file of owed runs. What it held until now is in an epoch, or lost. */
  #clearOwed(): void {
    const fd = this.#openOwed();
    ftruncateSync(fd, 0);
    writeSync(fd, IDLE, 0, WORD_BYTES, 0);
    this.#end = WORD_BYTES;
  }

  #openOwed(): number {
    if (this.#isClosed) throw new Error('closed');
    try {
      this.#owed ??= openSync(this.#owedPath, constants.O_RDWR | constants.O_CREAT, 0o600);
    } catch (cause) {
      throw writeFailure(this.#owedPath, cause);
    }
    return this.#owed;
  }

  /** Returns undefined if a process died while it cleared, or the file is damaged. */
  #readOwed(): OwedRun[] | undefined {
    const fd = this.#openOwed();
    const { size } = fstatSync(fd);
    const isWhole = size >= WORD_BYTES && (size - WORD_BYTES) % (RUN_WORDS * WORD_BYTES) === 0;
    if (!isWhole) return undefined;
    const words = new Uint32Array(size / WORD_BYTES);
    readSync(fd, words, 0, size, 0);
    this.#end = size;
    if (words[0] !== 0) return undefined;
    const runs: OwedRun[] = [];
    for (let at = 1; at < words.length; at += RUN_WORDS) {
      const [block = 0, page = 0, count = 0] = words.subarray(at, at + RUN_WORDS);
      runs.push({ block, page, count });
    }
    return runs.every((run) => this.#isInside(run)) ? runs : undefined;
  }

  #isInside({ block, page, count }: OwedRun): boolean {
    return (page + count) * PAGE_BYTES <= (this.#entry?.blocks[block]?.bytes ?? 0);
  }
}

/** Reads the entry; undefined if there is none that this Umbra reads. */
function readEntry(path: string): Entry | undefined {
  try {
    const entry = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    return isReadable(FORMAT, entry.version) ? entry : undefined;
  } catch {
    return undefined;
  }
}
