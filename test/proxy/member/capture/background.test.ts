/** Reports a VM that resumed before the barrier: the monitor says that it runs. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import { BackgroundCapture } from '../../../../proxy/member/capture/background.ts';
import type { MemberRound, Ready } from '../../../../proxy/member/capture/stages.ts';

const WHY = 'round.cut is all-stopped';

const test = suite('background capture');
/** Failures that the round was given. */
let failures: unknown[] = [];

function capture(): BackgroundCapture {
  failures = [];
  const round = {
    facts: { framesNotHeld: WHY },
    prepare: { disks: 'leave', stopDeadlineMs: 1, memoryBound: 1, inFlightBytes: 1 },
    throwIfOver: () => {},
    failed: (_: string, error: unknown) => failures.push(error),
  };
  const ready = {
    monitor: { execute: async () => ({ running: true, status: 'running' }) },
    shadow: {},
    reservedBytes: 4096,
    writableDisks: [],
  };
  return new BackgroundCapture(round as unknown as MemberRound, ready as unknown as Ready);
}

test('the error names the cut, whether QEMU’s event or its answer shows it', async () => {
  assert.not(capture().onResumed(true));
  const [event] = failures;
  const answer = await capture()
    .resume()
    .catch((error: unknown) => error);
  for (const error of [event, answer]) {
    const { code, message } = toFailure(error, {});
    assert.is(code, 'E_RESUMED_EARLY');
    assert.match(message, WHY);
  }
});

test.run();
