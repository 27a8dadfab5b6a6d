import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { thisProcess } from '../../../../proxy/host/known-process.ts';
import { Journal } from '../../../../proxy/member/repair/journal.ts';
import type { ShadowError } from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const test = suite('journal');
const saved = { capabilities: [], parameters: { 'max-bandwidth': 5 } };
let directory = '';

test.before.each(() => {
  directory = mkdtempSync(join(scratchFolder(), 'umbra-journal-'));
});
test.after.each(() => rmSync(directory, { recursive: true }));

test('a snapshot is noted with the process of the VM and the one that reads its stream', () => {
  const journal = new Journal(directory);
  journal.write({ round: 'r1', stopping: false, saved });
  journal.hold(['net0']);
  journal.note(true);
  journal.snapshot({ pid: 7, startTime: '70' }, thisProcess());
  assert.equal(new Journal(directory).read(), {
    round: 'r1',
    stopping: true,
    held: ['net0'],
    snapshot: { vm: { pid: 7, startTime: '70' }, reader: thisProcess() },
    saved,
  });
});

test('without an entry nothing is noted: no round holds the VM', () => {
  const journal = new Journal(directory);
  journal.snapshot(thisProcess(), thisProcess());
  assert.is(journal.read(), undefined);
});

test('the error of an unwritable journal names it and the cause', () => {
  const path = join(directory, 'none', 'round.json');
  try {
    new Journal(join(directory, 'none')).write({ round: 'r1', stopping: false, saved });
    assert.unreachable();
  } catch (error) {
    assert.is((error as ShadowError).code, 'E_STORE_IO');
    assert.is((error as ShadowError).message, `cannot write ${path}: ENOENT`);
  }
});

test('a damaged entry asks for the VM to be resumed, and for nothing else', () => {
  writeFileSync(join(directory, 'round.json'), '{"round": "r1", "snapshot": {"vm": 3}}');
  const entry = new Journal(directory).read();
  assert.is(entry?.stopping, true);
  assert.is(entry?.snapshot, undefined);
});

test('of a newer Umbra’s journal the known fields are read, and the VM is resumed', () => {
  for (const unknown of [{ version: 3 }, { version: 2, requires: ['stripes'] }]) {
    const entry = { round: 'r1', stopping: false, held: ['net0'], saved, more: 1 };
    writeFileSync(join(directory, 'round.json'), JSON.stringify({ ...unknown, ...entry }));
    const read = new Journal(directory).read();
    assert.equal(read, { round: 'r1', stopping: true, held: ['net0'], saved });
  }
});

test('a field that is not known is ignored', () => {
  const journal = new Journal(directory);
  journal.write({ round: 'r1', stopping: false, saved });
  const path = join(directory, 'round.json');
  const written = JSON.parse(readFileSync(path, 'utf8')) as object;
  writeFileSync(path, JSON.stringify({ ...written, host: 'b' }));
  assert.equal(journal.read(), { round: 'r1', stopping: false, held: [], saved });
});

test.run();
