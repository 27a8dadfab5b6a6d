/**
 * Fuzz target: files on tmpfs that outlive a process: the journal of a round, and pid files.
 * Whatever a file holds, reading it throws nothing. A journal that is damaged asks for the VM to be
 * resumed. A journal that was read is the same when it is written again.
 */
import { strict as assert } from 'node:assert';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { recordedProcess } from '../../../proxy/host/pid-file.ts';
import { Journal } from '../../../proxy/member/repair/journal.ts';
import { mutateLines } from '../mutate-lines.ts';
import type { Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';

const folder = makeFolder('journal');
const file = join(folder, 'round.json');

export const target: Target = {
  covers: [
    'proxy/member/repair/journal.ts',
    'proxy/host/pid-file.ts',
    'proxy/host/known-process.ts',
  ],
  inputBytesMax: 8_000,
  words: [
    '"version":2',
    '"version":9',
    '"requires":["x"]',
    '"held":',
    '"snapshot":',
    '"stopping":true',
    '"pid":1',
    '"startTime":',
    '{}',
    '[]',
  ],
  mutate: mutateLines,
  check(input) {
    writeFileSync(file, input);
    const card = recordedProcess(file);
    assert.ok(card === undefined || card.pid > 0);
    const journal = new Journal(folder);
    const entry = journal.read();
    assert.ok(entry !== undefined, 'it is there');
    if (entry.round === '') assert.ok(entry.stopping, 'its state is unknown: it is resumed');
    assert.ok(entry.held.every((name) => typeof name === 'string'));
    journal.write(entry);
    assert.deepEqual(journal.read(), entry);
    journal.note(true);
    assert.deepEqual(journal.read(), { ...entry, stopping: true });
    journal.remove();
    assert.ok(!existsSync(file));
    return `${entry.round === '' ? 'damaged' : 'whole'}${entry.snapshot ? ', a snapshot' : ''}`;
  },
};
