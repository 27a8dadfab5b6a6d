/**
 * The journal of a round: a file on tmpfs, there for as long as a round holds a VM. It says what to
 * repair if the member's proxy dies. It is written before the VM is touched, and removed when the
 * VM is as it was before the round.
 *
 *     FOLDER/round.json   {"format": "umbra-round-journal", "version": 2,
 *                          "round": ID, "stopping": BOOL, "held": [NETDEV, …],
 *                          "saved": {"capabilities": …, "parameters": …}, "migrates": BOOL,
 *                          "snapshot": {"vm": PROCESS, "reader": PROCESS}}
 *
 *     stopping   Umbra has asked for a stop. If it has not, a paused VM was paused by its user.
 *     held       network backends whose frames Umbra holds
 *     saved      migration settings of the VM before the round
 *     migrates   absent or true: a migration that is under way is the round's
 *     snapshot   there from before a background snapshot begins: one cannot simply be cancelled
 *                (snapshot-end.ts)
 *
 * Version 1 has neither format nor version. A journal is never refused, because a VM must not stay
 * stopped. Of one from a newer Umbra, or one that requires an unknown feature, the known fields are
 * taken, and the VM is resumed. Of a damaged one nothing is taken, and the VM is resumed.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { type FormatVersion, isReadable, writeFailure } from '../../../shadow/index.ts';
import { memberFile } from '../../host/folders.ts';
import { type KnownProcess, processSchema } from '../../host/known-process.ts';

const FORMAT: FormatVersion = { name: 'umbra-round-journal', version: 2, first: 1 };

const entrySchema = z.object({
  round: z.string(),
  stopping: z.boolean(),
  held: z.array(z.string()).default([]),
  /** Absent: yes. */
  migrates: z.boolean().optional(),
  /** QEMU, and the process that reads its stream. */
  snapshot: z.object({ vm: processSchema, reader: processSchema }).optional(),
  saved: z.object({
    capabilities: z.array(z.object({ capability: z.string(), state: z.boolean() })),
    parameters: z.record(z.string(), z.unknown()),
  }),
});

const versionSchema = z.object({
  version: z.number().int().default(FORMAT.first),
  requires: z.array(z.string()).default([]),
});

export type JournalEntry = z.infer<typeof entrySchema>;
type NewEntry = z.input<typeof entrySchema>;

export class Journal {
  readonly directory: string;
  readonly #path: string;

  constructor(directory: string) {
    this.directory = directory;
    this.#path = memberFile(directory, 'journal');
  }

  /**
   * Replaces the entry.
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO; the entry before stays
   */
  write(entry: NewEntry): void {
    const path = this.#path;
    const draft = `${path}.tmp`;
    const content = { format: FORMAT.name, version: FORMAT.version, ...entry };
    try {
      writeFileSync(draft, JSON.stringify(content), { mode: 0o600 });
      renameSync(draft, path);
    } catch (cause) {
      throw writeFailure(path, cause);
    }
  }

  /** Notes whether Umbra has asked for a stop. Does nothing without an entry. */
  note(stopping: boolean): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, stopping });
  }

  /** Notes the network backends whose frames will be held. Does nothing without an entry. */
  hold(held: readonly string[]): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, held: [...held] });
  }

  /** Notes that a background snapshot is about to begin. Does nothing without an entry. */
  snapshot(vm: KnownProcess, reader: KnownProcess): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, snapshot: { vm, reader } });
  }

  /** Reads the entry. @returns undefined if no round holds the VM */
  read(): JournalEntry | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch {
      return undefined;
    }
    try {
      const json: unknown = JSON.parse(text);
      const { version, requires } = versionSchema.parse(json);
      const entry = entrySchema.parse(json);
      const isKnown = isReadable(FORMAT, version) && requires.length === 0;
      return isKnown ? entry : { ...entry, stopping: true };
    } catch {
      const saved = { capabilities: [], parameters: {} };
      return { round: '', stopping: true, held: [], saved };
    }
  }

  /** Removes the entry: the VM is as it was before the round. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
