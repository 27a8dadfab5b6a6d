/** What is told of a VM that ran on though it was to stand: a monitor that says so. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import { BackgroundCapture } from '../../../../proxy/member/capture/background.ts';
import type { MemberRound } from '../../../../proxy/member/capture/member-round.ts';

const WHY = 'round.cut is all-stopped';

const test = suite('background drive');
/** What the round was told. */
let told: unknown[] = [];

function drive(): BackgroundCapture {
  told = [];
  const round = {
    meter: {},
    facts: { framesNotHeld: WHY },
    prepare: { disks: 'leave', stopDeadlineMs: 1 },
    monitor: { execute: async () => ({ running: true, status: 'running' }) },
    lookUp: () => {},
    failed: (_: string, error: unknown) => told.push(error),
  };
  return new BackgroundCapture(round as unknown as MemberRound);
}

test('the cut is named, whether the event comes before all were cut or only QEMU’s answer after', async () => {
  assert.not(drive().onResumed(true));
  const [event] = told;
  const answer = await drive()
    .resume()
    .catch((error: unknown) => error);
  for (const error of [event, answer]) {
    const { code, message } = toFailure(error, {});
    assert.is(code, 'E_RESUMED_EARLY');
    assert.match(message, WHY);
  }
});

test.run();
