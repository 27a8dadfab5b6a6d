/**
 * Records on tmpfs what a round has done to a VM, so that another process can repair the VM if the
 * proxy dies. Written before the VM is touched, removed when the VM is as before.
 *
 *     FOLDER/round.json   {"round": ID, "stopping": BOOL,
 *                          "saved": {"capabilities": …, "parameters": …}, "held": [NETDEV, …],
 *                          "snapshot": {"vm": PROCESS, "reader": PROCESS}}
 *
 * `stopping`: the round has asked for the VM's stop. Without it, a paused VM was paused by its
 * operator. `held`: backends whose frames the round holds. `snapshot`: a background snapshot may
 * have begun, and must not be broken off (snapshot-end.ts).
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { writeFailure } from '../../../shadow/index.ts';
import { memberFile } from '../../host/folders.ts';
import { type KnownProcess, processSchema } from '../../host/known-process.ts';

const journalSchema = z.object({
  round: z.string(),
  stopping: z.boolean(),
  held: z.array(z.string()).default([]),
  /** QEMU, and the process that reads its stream. */
  snapshot: z.object({ vm: processSchema, reader: processSchema }).optional(),
  saved: z.object({
    capabilities: z.array(z.object({ capability: z.string(), state: z.boolean() })),
    parameters: z.record(z.string(), z.unknown()),
  }),
});

export type JournalEntry = z.infer<typeof journalSchema>;
type NewEntry = z.input<typeof journalSchema>;

export class Journal {
  readonly directory: string;
  readonly #path: string;

  constructor(directory: string) {
    this.directory = directory;
    this.#path = memberFile(directory, 'journal');
  }

  /** Replaces the entry. @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO; the old entry stays */
  write(entry: NewEntry): void {
    const path = this.#path;
    const draft = `${path}.tmp`;
    try {
      writeFileSync(draft, JSON.stringify(entry), { mode: 0o600 });
      renameSync(draft, path);
    } catch (cause) {
      throw writeFailure(path, cause);
    }
  }

  /** Notes whether the round has asked for a stop. Does nothing without an entry. */
  note(stopping: boolean): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, stopping });
  }

  /** Notes backends whose frames are about to be held. Does nothing without an entry. */
  hold(held: readonly string[]): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, held: [...held] });
  }

  /** Notes that a background snapshot is about to begin. Does nothing without an entry. */
  snapshot(vm: KnownProcess, reader: KnownProcess): void {
    const entry = this.read();
    if (entry !== undefined) this.write({ ...entry, snapshot: { vm, reader } });
  }

  /**
   * Returns the entry; undefined if no round holds the VM. A damaged entry is read as one that asks
   * for the VM to be resumed.
   */
  read(): JournalEntry | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch {
      return undefined;
    }
    try {
      return journalSchema.parse(JSON.parse(text));
    } catch {
      return { round: '', stopping: true, held: [], saved: { capabilities: [], parameters: {} } };
    }
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
