/**
 * Fuzz target: lines that virsh prints of a monitor, and requests of the bridge's clients. Lines
 * throw nothing, and only an answer is taken for one. A request is parsed, or throws a QmpError.
 */
import { strict as assert } from 'node:assert';
import { QmpError } from '../../../qmp/errors.ts';
import {
  monitorAnswer,
  monitorCommand,
  monitorEvent,
  monitorRequest,
} from '../../../qmp/libvirt/monitor-lines.ts';
import { mutateLines } from '../mutate-lines.ts';
import { codeOf, type Target } from '../target.ts';

export const target: Target = {
  covers: ['qmp/libvirt/monitor-lines.ts'],
  inputBytesMax: 4_000,
  words: ["event STOP at 1700000000.123456 for domain 'd': {", '{"return":', '\n', '}', 'null'],
  mutate: mutateLines,
  check(input) {
    const text = input.toString('utf8');
    const answer = monitorAnswer(text);
    assert.ok(answer === undefined || 'return' in answer || 'error' in answer);
    const told = text.split('\n').map(monitorEvent);
    const events = told.filter((event) => event !== undefined);
    for (const { event, data, timestamp } of events) {
      assert.ok(typeof event === 'string' && typeof data === 'object' && data !== null);
      const { seconds, microseconds } = timestamp as { seconds: unknown; microseconds: unknown };
      assert.ok(Number.isFinite(seconds) && Number.isFinite(microseconds));
    }
    for (const line of text.split('\n')) requestOrCode(line);
    // For virsh's shell it is one line, with no quotes except those around its two words.
    const command = monitorCommand('d', { execute: text });
    assert.ok(!command.includes('\n') && command.split("'").length === 5);
    const answered = answer === undefined ? 'no answer' : 'an answer';
    return `${answered}, ${events.length > 0 ? 'events' : 'none'}`;
  },
};

function requestOrCode(line: string): void {
  try {
    assert.equal(typeof monitorRequest(line).execute, 'string');
  } catch (error) {
    codeOf(error, QmpError);
  }
}
