/**
 * A note on tmpfs, there for as long as a round holds a VM: what to put right if its proxy dies.
 * It is written before the VM is touched and removed when the VM runs as before.
 *
 *     FOLDER/round.json   {"round": ID, "saved": {"capabilities": […], "parameters": {…}}}
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const journalSchema = z.object({
  round: z.string(),
  saved: z.object({
    capabilities: z.array(z.object({ capability: z.string(), state: z.boolean() })),
    parameters: z.record(z.string(), z.unknown()),
  }),
});

export type JournalEntry = z.infer<typeof journalSchema>;

export class Journal {
  readonly #path: string;

  constructor(directory: string) {
    this.#path = join(directory, 'round.json');
  }

  write(entry: JournalEntry): void {
    const draft = `${this.#path}.tmp`;
    writeFileSync(draft, JSON.stringify(entry), { mode: 0o600 });
    renameSync(draft, this.#path);
  }

  /** @returns the entry a round left, or undefined if none did; a damaged one asks for the same care */
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
      return { round: '', saved: { capabilities: [], parameters: {} } };
    }
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
